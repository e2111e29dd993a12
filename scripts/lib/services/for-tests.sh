# Sourced by scripts/test: real servers for the tests. Those that AUTOREPLY_TEST_KAFKA|POSTGRES|REDIS name are used as they
# are; of the others an own set is brought up in a temporary directory. Bash; expects the repository as directory.
# shellcheck shell=bash

own_servers=
declare -A server_titles=([kafka]="Apache Kafka" [postgres]=PostgreSQL [redis]=Redis)

# Exports the addresses; a server that cannot be had is told, and counted as skipped.
bring_up_servers() {
  local service variable address wanted=()
  for service in kafka postgres redis; do
    variable=AUTOREPLY_TEST_${service^^}
    [ -n "${!variable:-}" ] || wanted+=("$service")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  scripts/install-services || true
  own_servers=$(mktemp -d "${TMPDIR:-/tmp}/autoreply-servers.XXXXXX")
  # PostgreSQL's own user has to get there.
  chmod 711 "$own_servers"
  for service in "${wanted[@]}"; do
    variable=AUTOREPLY_TEST_${service^^}
    if SERVICES_DIR=$own_servers SERVICES=$service scripts/services up; then
      address=$(sed -n "s/^export $variable=//p" "$own_servers/env")
      export "$variable=$address"
    else
      echo "SKIPPED what needs ${server_titles[$service]}: it could not be brought up (above)" | tee -a "$AUTOREPLY_SKIPS"
    fi
  done
}

# Ends the own set, by pid, with its data.
end_own_servers() {
  [ -z "$own_servers" ] || SERVICES_DIR=$own_servers scripts/services remove >/dev/null
  own_servers=
}

# server_version KIND ADDRESS: as the running server says it.
server_version() {
  case $1 in
    kafka)
      if [ -n "$own_servers" ] && [ -d "$own_servers/kafka" ]; then
        SERVICES_DIR=$own_servers scripts/services status 2>/dev/null | awk '$1 == "kafka-1" && $2 != "-" { print $2 }'
      else
        # Its protocol tells the level of its metadata, as 4.3-IV0 for 4.3.
        (
          . scripts/lib/services/jars.sh
          timeout 30 java -cp "$KAFKA_HOME/libs/*" org.apache.kafka.tools.FeatureCommand --bootstrap-server "$2" describe
        ) 2>/dev/null | sed -n 's/^Feature: metadata.version.*FinalizedVersionLevel: \([^[:space:]]*\).*/\1/p'
      fi
      ;;
    postgres) PGCONNECT_TIMEOUT=5 psql -X -q -At -c 'show server_version' "$2" 2>/dev/null | cut -d' ' -f1 ;;
    redis) timeout 5 redis-cli -u "$2" info server 2>/dev/null | tr -d '\r' | sed -n 's/^redis_version://p' ;;
  esac
}

# Names the servers that the tests use, with the versions that they give now.
name_servers() {
  local service variable version line=
  for service in kafka postgres redis; do
    variable=AUTOREPLY_TEST_${service^^}
    if [ -z "${!variable:-}" ]; then
      version=none
    else
      version=$(server_version "$service" "${!variable}")
      version=${version:-"of unknown version (${!variable})"}
    fi
    line+="${line:+, }${server_titles[$service]} $version"
  done
  echo "servers: $line"
}
