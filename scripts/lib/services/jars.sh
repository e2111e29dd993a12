# Sourced: where Apache Kafka's jars lie, and whether they are all there. POSIX sh.
# shellcheck shell=sh

KAFKA_VERSION=4.3.0
KAFKA_HOME=${XDG_CACHE_HOME:-${HOME:?HOME is not set, and the jars lie below it}/.cache}/autoreply/kafka-$KAFKA_VERSION

# True if every jar that was fetched is there and reads as it did then.
kafka_jars_whole() {
    [ -s "$KAFKA_HOME/SHA256SUMS" ] &&
        grep -q "libs/kafka_2.13-$KAFKA_VERSION.jar" "$KAFKA_HOME/SHA256SUMS" &&
        grep -q "libs/kafka-tools-$KAFKA_VERSION.jar" "$KAFKA_HOME/SHA256SUMS" &&
        grep -q "libs/log4j-slf4j-impl-" "$KAFKA_HOME/SHA256SUMS" &&
        (cd "$KAFKA_HOME" && sha256sum --check --quiet --status SHA256SUMS)
}
