# Sourced by scripts/services: Redis in memory only, as autoreply uses it.
# shellcheck shell=bash
: "${dir:?}"

redis_require() {
  command -v redis-server >/dev/null || fail "Redis is not installed (scripts/install-services)"
}

redis_address() { echo "redis://127.0.0.1:$(port redis)"; }
redis_env() { echo "export AUTOREPLY_TEST_REDIS=$(redis_address)"; }

redis_prepare() {
  cat >"$dir/redis/redis.conf" <<TEXT
bind 127.0.0.1
dir $dir/redis
save ""
appendonly no
# Else it rewrites the command line by which it is known to be ours.
set-proc-title no
TEXT
}

redis_launch() {
  [ ! -f "$dir/redis/server.log" ] || mv "$dir/redis/server.log" "$dir/redis/server.log.1"
  detach redis "$dir/redis/redis.conf" "$dir/redis/server.log" redis-server "$dir/redis/redis.conf" --port "$(port redis)"
}

redis_ask() { timeout 5 redis-cli -h 127.0.0.1 -p "$(port redis)" "$@" 2>/dev/null; }
# Another program could answer on its port: it must be the process that was started here.
redis_answers() { redis_ask info server | tr -d '\r' | grep -qx "process_id:$(pid_of redis)"; }
redis_await() { answers_soon redis; }
redis_version() { redis_ask info server | tr -d '\r' | sed -n 's/^redis_version://p'; }
redis_stop() { end redis; }
redis_kill() { slay redis; }
# It has no disk: what it held went with the process.
redis_lose() { :; }
