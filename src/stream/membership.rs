//! What a member of a group says of its partitions, as Kafka's consumer protocol writes it. Pure.

/// How many partitions an assignment holds: a version, then a list of topics, each with a list of partitions, all numbers
/// big-endian. `None` if it is none of these.
pub(super) fn partitions(assignment: &[u8]) -> Option<usize> {
    let mut rest = assignment;
    let _version = take::<2>(&mut rest)?;
    let topics = length(&mut rest)?;
    let mut count = 0;
    for _ in 0..topics {
        let name = usize::try_from(i16::from_be_bytes(take::<2>(&mut rest)?)).ok()?;
        rest = rest.get(name..)?;
        let partitions = length(&mut rest)?;
        rest = rest.get(partitions.checked_mul(4)?..)?;
        count += partitions;
    }
    Some(count)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(i32::from_be_bytes(take::<4>(rest)?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(topics: &[(String, Vec<i32>)]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for (name, partitions) in topics {
            bytes.extend((name.len() as i16).to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            partitions.iter().for_each(|partition| bytes.extend(partition.to_be_bytes()));
        }
        // The member's own data, which is nothing.
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn what_a_member_was_given_is_counted(
            topics in proptest::collection::vec(("[a-z.]{1,20}", proptest::collection::vec(0i32..48, 0..9)), 0..5),
        ) {
            let expected = topics.iter().map(|(_, partitions)| partitions.len()).sum();
            let bytes = written(&topics);
            prop_assert_eq!(partitions(&bytes), Some(expected));
            if !topics.is_empty() {
                prop_assert_eq!(partitions(&bytes[..5]), None);
            }
        }

        #[test]
        fn other_bytes_break_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _counted = partitions(&bytes);
        }
    }
}
