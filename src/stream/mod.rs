//! Kafka: producer, consumer, the desktop's reader, and the embedded broker. It hands records to a closure and knows no room.
