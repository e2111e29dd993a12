# Sourced by scripts/services: PostgreSQL from Debian's versioned directory, never as root, with its durable defaults.
# shellcheck shell=bash
: "${dir:?}" "${wait_s:?}"

# The newest installed server's programs, which are not on PATH.
postgres_bin() {
  local found
  found=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
  if [ -x "$found" ]; then dirname "$found"; else dirname "$(realpath "$(command -v postgres)" 2>/dev/null)" 2>/dev/null; fi
}

postgres_require() {
  [ -x "$(postgres_bin)/initdb" ] || fail "PostgreSQL is not installed (scripts/install-services)"
  [ "$(id -u)" != 0 ] || id postgres >/dev/null 2>&1 ||
    fail "PostgreSQL refuses to run as root, and there is no user postgres; run this as another user."
}

# It does not run as root: then it is Debian's user postgres.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; else "$@"; fi
}

postgres_place() { cat "$dir/postgres/place"; }
postgres_address() { echo "postgres://autoreply@127.0.0.1:$(port postgres)/autoreply"; }
postgres_env() { echo "export AUTOREPLY_TEST_POSTGRES=$(postgres_address)"; }

# Data and socket lie in the directory if user postgres can get there and the socket's path is not too long for the
# kernel (107 bytes); else in a directory of their own in /var/tmp, which is said and noted.
postgres_settle() {
  local where=$dir/postgres/server
  [ ! -s "$dir/postgres/place" ] || [ ! -d "$(postgres_place)" ] || return 0
  mkdir -p "$where"
  [ "$(id -u)" != 0 ] || chown postgres:postgres "$where"
  chmod 700 "$where"
  if [ "${#where}" -gt 85 ] || ! as_postgres test -w "$where" -a -x "$where"; then
    rmdir "$where"
    where=$(mktemp -d /var/tmp/autoreply-postgres.XXXXXX) || return 1
    [ "$(id -u)" != 0 ] || chown postgres:postgres "$where"
    echo "postgres: its user cannot reach $dir, or the path is too long for a socket; its data is in $where."
  fi
  echo "$where" >"$dir/postgres/place"
}

postgres_prepare() {
  local where log=$dir/postgres/server.log
  postgres_settle || return 1
  where=$(postgres_place)
  [ ! -f "$where/data/PG_VERSION" ] || return 0
  rm -rf "$where/data"
  (cd / && as_postgres "$(postgres_bin)/initdb" -D "$where/data" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8) \
    >>"$log" 2>&1 || explain postgres || return 1
  cat >>"$where/data/postgresql.conf" <<TEXT
# Durability stays as it comes: fsync, synchronous_commit and full_page_writes are on.
listen_addresses = '127.0.0.1'
unix_socket_directories = '$where'
max_connections = 200
TEXT
}

postgres_launch() {
  local where log=$dir/postgres/server.log
  [ ! -f "$log" ] || mv "$log" "$log.1"
  postgres_prepare || return 1
  where=$(postgres_place)
  if [ "$(id -u)" = 0 ]; then
    detach postgres "$where/data" "$log" \
      setpriv --reuid=postgres --regid=postgres --init-groups -- "$(postgres_bin)/postgres" -D "$where/data" -p "$(port postgres)"
  else
    detach postgres "$where/data" "$log" "$(postgres_bin)/postgres" -D "$where/data" -p "$(port postgres)"
  fi
}

# postgres_ask ROLE DATABASE SQL
postgres_ask() {
  PGCONNECT_TIMEOUT=5 "$(postgres_bin)/psql" -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$(port postgres)" \
    -U "$1" -d "$2" -c "$3" 2>/dev/null
}

# Another program could answer on its port: it must be the one with these data.
postgres_accepts() { [ "$(postgres_ask postgres postgres 'show data_directory')" = "$(postgres_place)/data" ]; }
postgres_answers() { postgres_accepts && [ "$(postgres_ask autoreply autoreply 'select 1')" = 1 ]; }

postgres_await() {
  local ends=$((SECONDS + wait_s))
  until postgres_accepts; do
    running postgres && [ "$SECONDS" -lt "$ends" ] || return 1
    sleep 0.1
  done
  postgres_answers && return 0
  # New: its role, which may make the databases of tests, and a database. A start that was interrupted may have made one.
  postgres_ask postgres postgres 'create role autoreply login createdb'
  postgres_ask postgres postgres 'create database autoreply owner autoreply'
  postgres_answers
}

postgres_version() { postgres_ask autoreply autoreply 'show server_version' | cut -d' ' -f1; }
postgres_stop() { end postgres; }

# What it leaves behind names its pid, which would hold off the next one for as long as nobody reaps the zombie.
postgres_kill() {
  slay postgres && rm -f "$(postgres_place)/data/postmaster.pid" "$(postgres_place)"/.s.PGSQL.*
}

postgres_lose() { rm -rf "$(postgres_place)/data"; }

# The directory in /var/tmp, if there is one, goes with the rest.
postgres_forget() {
  [ -s "$dir/postgres/place" ] || return 0
  case $(postgres_place) in /var/tmp/autoreply-postgres.*) rm -rf "$(postgres_place)" ;; esac
}
