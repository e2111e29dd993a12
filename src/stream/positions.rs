//! What is known of each assigned partition: which records are still ours after a rebalance, which offsets may be
//! committed, and what the survey compares. Pure.

use std::collections::{BTreeMap, HashMap};

/// A partition of a topic, by its logical name.
pub(super) type Place = (String, i32);

/// How far a partition is done: the next offset, and the time of its newest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    /// One above the last record that is done.
    pub(super) next: i64,
    /// The greatest time of a record that is done, in milliseconds since the epoch; -1 if none was dated.
    pub(super) newest_ms: i64,
}

/// What the group is told of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// The number of its assignment.
    pub(super) epoch: u64,
    /// The next offset.
    pub(super) next: i64,
}

/// An assigned partition.
#[derive(Debug, Default, Clone)]
struct Held {
    epoch: u64,
    done: Option<Done>,
    committed: Option<i64>,
    handed_ms: Option<i64>,
}

/// The partitions that are assigned, each with the number of its assignment: work that outlived a revoke carries an
/// older number and is dropped, even when the same partition has come back.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    next_epoch: u64,
    topics: HashMap<String, BTreeMap<i32, Held>>,
}

impl Assignment {
    /// `places` were assigned, or begin anew.
    pub(super) fn assign(&mut self, places: impl IntoIterator<Item = Place>) {
        self.next_epoch += 1;
        for (topic, partition) in places {
            let held = Held { epoch: self.next_epoch, ..Held::default() };
            self.topics.entry(topic).or_default().insert(partition, held);
        }
    }

    /// `places` were taken away.
    pub(super) fn revoke(&mut self, places: impl IntoIterator<Item = Place>) {
        for (topic, partition) in places {
            if let Some(partitions) = self.topics.get_mut(&topic) {
                partitions.remove(&partition);
            }
        }
    }

    fn held(&self, topic: &str, partition: i32) -> Option<&Held> {
        self.topics.get(topic)?.get(&partition)
    }

    fn held_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Held> {
        self.topics.get_mut(topic)?.get_mut(&partition)
    }

    /// The number of the partition's present assignment, or none.
    pub(super) fn epoch(&self, topic: &str, partition: i32) -> Option<u64> {
        self.held(topic, partition).map(|held| held.epoch)
    }

    /// A record of this time is being worked on; the first one counts until [`Self::handed_back`].
    pub(super) fn hand(&mut self, topic: &str, partition: i32, timestamp_ms: i64) {
        if let Some(held) = self.held_mut(topic, partition) {
            held.handed_ms.get_or_insert(timestamp_ms);
        }
    }

    /// Nothing is being worked on any more.
    pub(super) fn handed_back(&mut self) {
        self.topics.values_mut().flat_map(BTreeMap::values_mut).for_each(|held| held.handed_ms = None);
    }

    /// A partition of which nothing was done yet is read from `next` on. No record before it is newer than `newest_ms`;
    /// -1 where that is not known.
    pub(super) fn start(&mut self, place: &Place, next: i64, newest_ms: i64) {
        if let Some(held) = self.held_mut(&place.0, place.1) {
            held.done.get_or_insert(Done { next, newest_ms });
        }
    }

    /// Partitions are done so far.
    pub(super) fn finish(&mut self, next: &HashMap<Place, Done>) {
        for ((topic, partition), done) in next {
            if let Some(held) = self.held_mut(topic, *partition) {
                let newest_ms = held.done.map_or(-1, |before| before.newest_ms).max(done.newest_ms);
                held.done = Some(Done { newest_ms, ..*done });
            }
        }
    }

    /// The group knows that partitions are done so far, if they still have the assignment that it was told of.
    pub(super) fn committed(&mut self, told: &HashMap<Place, Told>) {
        for ((topic, partition), told) in told {
            if let Some(held) = self.held_mut(topic, *partition).filter(|held| held.epoch == told.epoch) {
                held.committed = Some(told.next);
            }
        }
    }

    /// What is done and not known to the group, with records that were really done.
    pub(super) fn uncommitted(&self) -> HashMap<Place, Told> {
        self.all()
            .filter_map(|(place, held)| {
                let done = held.done.filter(|done| done.newest_ms >= 0 && held.committed != Some(done.next))?;
                Some((place, Told { epoch: held.epoch, next: done.next }))
            })
            .collect()
    }

    /// Every assigned partition with how far it is done and the time of the oldest record being worked on.
    pub(super) fn snapshot(&self) -> Vec<Standing> {
        let stand = |(place, held): (Place, &Held)| Standing {
            place,
            epoch: held.epoch,
            done: held.done,
            handed_ms: held.handed_ms,
        };
        self.all().map(stand).collect()
    }

    fn all(&self) -> impl Iterator<Item = (Place, &Held)> {
        self.topics
            .iter()
            .flat_map(|(topic, held)| held.iter().map(move |(partition, held)| ((topic.clone(), *partition), held)))
    }
}

/// How an assigned partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// The partition.
    pub(super) place: Place,
    /// The number of its assignment.
    pub(super) epoch: u64,
    /// How far it is done.
    pub(super) done: Option<Done>,
    /// The time of the oldest record being worked on.
    pub(super) handed_ms: Option<i64>,
}

/// How far each partition is done: behind the *last* of its records. Batches hold each partition's records in the
/// order in which they came and without a hole, and are done as a whole, so what lies before it is done. The last, not
/// the greatest: when a topic was made anew, its offsets begin again.
pub(super) fn next_offsets<'a>(records: impl Iterator<Item = (&'a str, i32, i64, i64)>) -> HashMap<Place, Done> {
    let mut last: HashMap<(&str, i32), Done> = HashMap::new();
    for (topic, partition, offset, timestamp_ms) in records {
        let done = last.entry((topic, partition)).or_insert(Done { next: 0, newest_ms: 0 });
        *done = Done { next: offset.saturating_add(1), newest_ms: done.newest_ms.max(timestamp_ms) };
    }
    last.into_iter().map(|((topic, partition), done)| ((topic.to_owned(), partition), done)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> Place {
        ("t".to_owned(), partition)
    }

    fn done(next: i64, newest_ms: i64) -> Done {
        Done { next, newest_ms }
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
    fn the_next_offset_is_one_above_the_last_of_each_partition() {
        let next = next_offsets([("t", 0, 4, 70), ("t", 1, 9, 60), ("t", 0, 5, 65)].into_iter());
        assert_eq!(next, HashMap::from([(place(0), done(6, 70)), (place(1), done(10, 60))]));
        let anew = next_offsets([("t", 0, 900, 70), ("t", 0, 0, 80), ("t", 0, 1, 81)].into_iter());
        assert_eq!(anew, HashMap::from([(place(0), done(2, 81))]), "a topic that was made anew begins again");
    }

    #[test]
    fn what_is_done_is_committed_once_and_only_while_it_is_ours() {
        let mut assignment = Assignment::default();
        assignment.assign([place(0), place(1)]);
        let told = |epoch: u64, next: i64| HashMap::from([(place(0), Told { epoch, next })]);
        assignment.start(&place(1), 40, -1);
        assert!(assignment.uncommitted().is_empty(), "nothing was done yet");
        assignment.finish(&HashMap::from([(place(0), done(6, 70)), (place(7), done(1, 1))]));
        assert_eq!(assignment.uncommitted(), told(1, 6));
        assignment.committed(&told(1, 5));
        assert_eq!(assignment.uncommitted().len(), 1, "an older commit is not this one");
        assignment.committed(&told(0, 6));
        assert_eq!(assignment.uncommitted().len(), 1, "one under another assignment is not this one");
        assignment.committed(&told(1, 6));
        assert!(assignment.uncommitted().is_empty());
        assignment.finish(&HashMap::from([(place(0), done(7, 60))]));
        assert_eq!(assignment.uncommitted(), told(1, 7));
        let newest =
            |a: &Assignment| a.snapshot().iter().find_map(|s| (s.place == place(0)).then_some(s.done)).flatten();
        assert_eq!(newest(&assignment), Some(done(7, 70)), "the newest time stays");
        assignment.revoke([place(0)]);
        assert!(assignment.uncommitted().is_empty());
    }

    #[test]
    fn the_oldest_record_in_hand_is_kept_until_all_are_back() {
        let mut assignment = Assignment::default();
        assignment.assign([place(0)]);
        assignment.hand("t", 0, 5);
        assignment.hand("t", 0, 9);
        assert_eq!(assignment.snapshot()[0].handed_ms, Some(5));
        assignment.handed_back();
        assert_eq!(assignment.snapshot()[0].handed_ms, None);
    }
}
