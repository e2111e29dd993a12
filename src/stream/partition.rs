//! The partition of a key, as the partitioner `murmur2_random` of librdkafka and the default one of Java choose it.

/// The partition of `key` among `count`; `None` for an empty key, which goes to any, and for no partitions.
pub fn partition_of(key: &[u8], count: i32) -> Option<i32> {
    if key.is_empty() || count <= 0 {
        return None;
    }
    // The sign bit is cleared, not negated: that is what Java's client does.
    i32::try_from(murmur2(key) & 0x7fff_ffff).ok().map(|hash| hash % count)
}

/// MurmurHash2 by Austin Appleby (public domain), 32 bits, with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    for (place, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * place);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_without_a_partition_have_none() {
        assert_eq!(partition_of(b"", 48), None);
        assert_eq!(partition_of(b"a", 0), None);
    }

    #[test]
    fn every_key_has_a_partition_in_range() {
        for number in 0..1000 {
            let partition = partition_of(format!("key-{number}").as_bytes(), 48).unwrap();
            assert!((0..48).contains(&partition));
        }
    }
}
