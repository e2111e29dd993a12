//! Which offsets may be committed, and which records are still ours after a rebalance. Pure.

use std::collections::HashMap;

/// A partition of a topic.
pub(super) type Place = (String, i32);

/// The partitions that are assigned, each with the number of its assignment: work that outlived a revoke carries an
/// older number and is dropped, even when the same partition has come back.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    next_epoch: u64,
    epochs: HashMap<Place, u64>,
}

impl Assignment {
    /// `places` were assigned.
    pub(super) fn assign(&mut self, places: impl IntoIterator<Item = Place>) {
        self.next_epoch += 1;
        for place in places {
            self.epochs.insert(place, self.next_epoch);
        }
    }

    /// `places` were taken away.
    pub(super) fn revoke(&mut self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.epochs.remove(&place);
        }
    }

    /// The number of the partition's present assignment, or none.
    pub(super) fn epoch(&self, topic: &str, partition: i32) -> Option<u64> {
        self.epochs.get(&(topic.to_owned(), partition)).copied()
    }
}

/// The next offset to read of each partition: one above the highest *contiguous* record that is done. Batches hold
/// each partition's records in order and without a hole and are done as a whole, so the greatest one is contiguous.
pub(super) fn next_offsets<'a>(records: impl Iterator<Item = (&'a str, i32, i64)>) -> HashMap<Place, i64> {
    let mut next = HashMap::new();
    for (topic, partition, offset) in records {
        let position = next.entry((topic.to_owned(), partition)).or_insert(0);
        *position = (*position).max(offset.saturating_add(1));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> Place {
        ("t".to_owned(), partition)
    }

    #[test]
    fn a_partition_that_comes_back_is_another_assignment() {
        let mut assignment = Assignment::default();
        assignment.assign([place(0), place(1)]);
        let before = assignment.epoch("t", 0);
        assignment.revoke([place(0)]);
        assert_eq!(assignment.epoch("t", 0), None);
        assignment.assign([place(0)]);
        assert!(assignment.epoch("t", 0) > before);
        assert_eq!(assignment.epoch("t", 1), before, "the one that was kept is the same assignment");
    }

    #[test]
    fn the_next_offset_is_one_above_the_greatest_of_each_partition() {
        let next = next_offsets([("t", 0, 4), ("t", 1, 9), ("t", 0, 5)].into_iter());
        assert_eq!(next, HashMap::from([(place(0), 6), (place(1), 10)]));
    }
}
