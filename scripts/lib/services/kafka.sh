# Sourced by scripts/services: Apache Kafka from its jars, broker and controller in one process.
# shellcheck shell=bash
: "${dir:?}" "${wait_s:?}"

kafka_require() {
  if ! command -v java >/dev/null || ! kafka_jars_whole; then
    fail "Apache Kafka $KAFKA_VERSION is not installed (scripts/install-services)"
  fi
}

kafka_address() { echo "127.0.0.1:$(port "$1")"; }

kafka_addresses() {
  local name all=
  for name in $(names_of kafka); do all+=${all:+,}$(kafka_address "$name"); done
  echo "$all"
}

kafka_env() { echo "export AUTOREPLY_TEST_KAFKA=$(kafka_addresses)"; }

# A random id as Kafka writes them: 16 bytes in URL-safe base 64; one that begins with a dash would be read as an option.
kafka_cluster_id() {
  local id
  id=$(cat "$dir/cluster-id" 2>/dev/null) || id=
  while [ -z "$id" ] || [ "${id#-}" != "$id" ]; do
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
  done
  echo "$id" | tee "$dir/cluster-id"
}

kafka_voters() {
  local name all=
  for name in $(names_of kafka); do all+=${all:+,}${name#kafka-}@127.0.0.1:$(port "$name-controller"); done
  echo "$all"
}

kafka_prepare() {
  local where copies=1 in_sync=1
  where=$(place "$1")
  mkdir -p "$where"
  if [ "$(names_of kafka | wc -l)" -eq 3 ]; then copies=3 in_sync=2; fi
  cat >"$where/server.properties" <<TEXT
process.roles=broker,controller
node.id=${1#kafka-}
controller.quorum.voters=$(kafka_voters)
listeners=PLAINTEXT://$(kafka_address "$1"),CONTROLLER://127.0.0.1:$(port "$1-controller")
advertised.listeners=PLAINTEXT://$(kafka_address "$1")
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$where/data
# Workers that start at once must meet before the first hands out partitions: with 0 each join moves all of them.
group.initial.rebalance.delay.ms=${KAFKA_REBALANCE_DELAY_MS:-3000}
auto.create.topics.enable=false
default.replication.factor=$copies
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$copies
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
# The default of 128 MB is a third of these brokers' memory.
log.cleaner.dedupe.buffer.size=16777216
TEXT
  cat >"$where/log4j2.properties" <<'TEXT'
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c)%n
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
logger.segments.name=org.apache.kafka.storage.internals.log
logger.segments.level=WARN
logger.state.name=state.change.logger
logger.state.level=WARN
TEXT
}

kafka_java() { java -cp "$KAFKA_HOME/libs/*" "$@"; }

# A disk without meta.properties is new: it is given the cluster's id.
kafka_format() {
  local where=$1
  [ ! -f "$where/data/meta.properties" ] || return 0
  kafka_java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$where/log4j2.properties" \
    kafka.tools.StorageTool format -t "$(kafka_cluster_id)" -c "$where/server.properties" >>"$where/server.log" 2>&1
}

kafka_launch() {
  local where heap
  local -a jvm
  where=$(place "$1")
  # A broker that lives for minutes would spend more on the second compiler (half a core of a quiet machine) than that
  # one ever gives back. KAFKA_JVM takes other options.
  read -ra jvm <<<"${KAFKA_JVM:--XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
  heap=512m
  [ "$(names_of kafka | wc -l)" -eq 1 ] || heap=384m
  [ ! -f "$where/server.log" ] || mv "$where/server.log" "$where/server.log.1"
  kafka_format "$where" || explain "$1" || return 1
  detach "$1" "$where/server.properties" "$where/server.log" \
    java -Xmx"${KAFKA_HEAP:-$heap}" "${jvm[@]}" -Dlog4j2.configurationFile="$where/log4j2.properties" \
    -cp "$KAFKA_HOME/libs/*" kafka.Kafka "$where/server.properties"
}

# Asks which versions of requests it speaks (ApiVersions, the first request of every client) and wants no error back:
# length, correlation id 7, error code 0.
kafka_answers() {
  local answer
  answer=$(
    exec 3<>"/dev/tcp/127.0.0.1/$(port "$1")" || exit 1
    printf '\0\0\0\012\0\022\0\0\0\0\0\007\377\377' >&3
    timeout 5 head -c 10 <&3 | od -An -v -tx1 | tr -d ' \n'
  ) 2>/dev/null
  [[ $answer == ????????000000070000 ]]
}

# A broker listens before it may lead partitions; it says itself when it has joined.
kafka_started() { grep -qs 'Kafka Server started' "$(place "$1")/server.log" && kafka_answers "$1"; }

kafka_await() {
  local ends=$((SECONDS + wait_s))
  until kafka_started "$1"; do
    running "$1" && [ "$SECONDS" -lt "$ends" ] || return 1
    sleep 0.1
  done
}

# What the running broker said of itself when it started.
kafka_version() { sed -n 's/.*Kafka version: \([^ ]*\).*/\1/p' "$(place "$1")/server.log" 2>/dev/null | tail -n 1; }

kafka_stop() { end "$1"; }
kafka_kill() { slay "$1"; }
kafka_lose() { rm -rf "$(place "$1")/data"; }
