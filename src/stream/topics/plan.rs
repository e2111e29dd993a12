//! What has to be done to a cluster so that it has the topics that were decided, and what a person has to decide. Pure.
//!
//! A plan never deletes, never lowers and never adds partitions: more partitions would send a key elsewhere than its
//! earlier records, so a topic that grew too small is followed by a `.v2` beside it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Topic;

/// A topic as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// How many partitions.
    pub partitions: i32,
    /// The fewest copies that one of its partitions has.
    pub replication: usize,
    /// Every setting in force, with its value, whether set on the topic or not.
    pub config: BTreeMap<String, String>,
}

/// What a cluster has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// How many brokers there are.
    pub brokers: usize,
    /// The topics that carry the prefix, by their names on the broker.
    pub topics: BTreeMap<String, Found>,
}

/// A step that a plan takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// A topic is created.
    Create {
        /// Its name on the broker.
        topic: String,
        /// How many partitions it gets.
        partitions: i32,
        /// How many copies of each.
        replication: usize,
        /// Its settings.
        config: BTreeMap<String, String>,
    },
    /// A setting of a topic is changed.
    Set {
        /// The topic's name on the broker.
        topic: String,
        /// The setting.
        key: String,
        /// Its value now.
        from: String,
        /// Its value then.
        to: String,
    },
}

impl Change {
    /// The topic's name on the broker.
    pub fn topic(&self) -> &str {
        match self {
            Self::Create { topic, .. } | Self::Set { topic, .. } => topic,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { topic, partitions, replication, config } => {
                write!(f, "+ {topic}: {partitions} partitions, {replication} copies")?;
                config.iter().try_for_each(|(key, value)| write!(f, "\n    {key} = {value}"))
            }
            Self::Set { topic, key, from, to } => write!(f, "~ {topic}: {key} = {from} -> {to}"),
        }
    }
}

/// How much a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// It may stay: the cluster keeps or allows more than was decided.
    Left,
    /// A person has to mend it.
    Mend,
}

/// What a plan does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The topic's name on the broker.
    pub topic: String,
    /// How much it matters.
    pub weight: Weight,
    /// What differs, and what follows from it.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.weight == Weight::Mend { '!' } else { '=' };
        write!(f, "{mark} {}: {}. {}.", self.topic, self.what, self.remedy)
    }
}

/// What has to be done, and what is left to a person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// The steps, in order.
    pub changes: Vec<Change>,
    /// What they do not mend.
    pub differences: Vec<Difference>,
}

impl Plan {
    /// Whether the cluster has what was decided, or more.
    pub fn fits(&self) -> bool {
        self.changes.is_empty() && self.differences.iter().all(|difference| difference.weight == Weight::Left)
    }

    /// The topics that are missing.
    pub fn missing(&self) -> Vec<&str> {
        let missing = |change: &'_ Change| matches!(change, Change::Create { .. });
        self.changes.iter().filter(|change| missing(change)).map(Change::topic).collect()
    }
}

/// How a setting may be changed.
enum Rule {
    /// To what was decided, whatever it is.
    Set,
    /// Only upwards; -1 is without end.
    Raise,
    /// Not at all: it decides what is deleted.
    ByHand,
}

fn rule(key: &str) -> Rule {
    match key {
        "cleanup.policy" => Rule::ByHand,
        "retention.ms" | "max.message.bytes" | "min.insync.replicas" => Rule::Raise,
        _ => Rule::Set,
    }
}

/// The copies of each partition: as many as are asked for; without a wish three, or one a broker where there are fewer.
pub fn replication(wish: u16, brokers: usize) -> usize {
    if wish == 0 { brokers.clamp(1, 3) } else { usize::from(wish) }
}

/// Compares the topics that were decided, each with its name on the broker, with what the cluster has. `wish` is the
/// replication asked for, or 0.
pub fn plan(desired: &[(String, Topic)], wish: u16, cluster: &Cluster) -> Plan {
    let mut plan = Plan::default();
    let copies = replication(wish, cluster.brokers);
    for (name, topic) in desired {
        match cluster.topics.get(name) {
            None => create(&mut plan, name, topic, copies, cluster.brokers),
            Some(found) => {
                compare_shape(&mut plan, name, topic, copies, found);
                // What makes a record safe depends on the copies that there are, not on those that were wished for.
                for (key, wanted) in config(topic, found.replication) {
                    compare_setting(&mut plan, name, &key, &wanted, found.config.get(&key));
                }
            }
        }
    }
    for name in cluster.topics.keys().filter(|name| !desired.iter().any(|(known, _)| known == *name)) {
        plan.differences.push(Difference {
            topic: name.clone(),
            weight: Weight::Left,
            what: "it carries the prefix and is none of this version's topics".to_owned(),
            remedy: "Delete it if nobody uses it any more; this program never does".to_owned(),
        });
    }
    plan
}

fn config(topic: &Topic, copies: usize) -> BTreeMap<String, String> {
    let mut config: BTreeMap<_, _> = topic.config().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    if copies >= 3 {
        config.insert("min.insync.replicas".to_owned(), "2".to_owned());
    }
    config
}

fn create(plan: &mut Plan, name: &str, topic: &Topic, copies: usize, brokers: usize) {
    if copies > brokers {
        plan.differences.push(Difference {
            topic: name.to_owned(),
            weight: Weight::Mend,
            what: format!("it is missing, and {copies} copies cannot be made on {brokers} brokers"),
            remedy: "Start more brokers, or lower stream.replication_factor".to_owned(),
        });
        return;
    }
    plan.changes.push(Change::Create {
        topic: name.to_owned(),
        partitions: topic.partitions,
        replication: copies,
        config: config(topic, copies),
    });
}

fn compare_shape(plan: &mut Plan, name: &str, topic: &Topic, copies: usize, found: &Found) {
    let mut tell = |weight, what: String, remedy: &str| {
        plan.differences.push(Difference { topic: name.to_owned(), weight, what, remedy: remedy.to_owned() });
    };
    if found.partitions != topic.partitions {
        let (has, wanted) = (found.partitions, topic.partitions);
        let remedy = "Stop every role, make the topic anew with the right number, and start them: journals and ledger \
                      publish again what is open";
        let risk = "a key may lie elsewhere than where its earlier records are read";
        tell(Weight::Mend, format!("it has {has} partitions and not {wanted}; {risk}"), remedy);
    }
    if found.replication < copies {
        let has = found.replication;
        let remedy = "Give its partitions more replicas with Kafka's reassignment tool";
        tell(Weight::Mend, format!("it has {has} copies and not {copies}; losing {has} brokers loses records"), remedy);
    } else if found.replication > copies {
        let has = found.replication;
        tell(Weight::Left, format!("it has {has} copies, more than the {copies} wanted"), "Nothing needs to be done");
    }
}

fn compare_setting(plan: &mut Plan, name: &str, key: &str, wanted: &str, found: Option<&String>) {
    let has = found.map_or("", String::as_str);
    if has == wanted {
        return;
    }
    let mut tell = |weight, what: String, remedy: &str| {
        plan.differences.push(Difference { topic: name.to_owned(), weight, what, remedy: remedy.to_owned() });
    };
    match rule(key) {
        Rule::ByHand => tell(
            Weight::Mend,
            format!("{key} is {has:?} and not {wanted:?}; changing it would delete records"),
            "Change it with Kafka's own tools once you are sure",
        ),
        Rule::Raise if endless(has) > endless(wanted) => {
            tell(Weight::Left, format!("{key} is {has}, more than the {wanted} wanted"), "It is left as it is");
        }
        Rule::Raise | Rule::Set => plan.changes.push(Change::Set {
            topic: name.to_owned(),
            key: key.to_owned(),
            from: has.to_owned(),
            to: wanted.to_owned(),
        }),
    }
}

/// A number where -1 is without end; what is no number counts as nothing.
fn endless(value: &str) -> i64 {
    match value.parse::<i64>() {
        Ok(-1) => i64::MAX,
        Ok(number) => number,
        Err(_) => i64::MIN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn desired() -> Vec<(String, Topic)> {
        super::super::all().unwrap().into_iter().map(|topic| (topic.name.clone(), topic)).collect()
    }

    /// What a cluster has once a plan was carried out.
    fn carry_out(plan: &Plan, cluster: &Cluster) -> Cluster {
        let mut after = cluster.clone();
        for change in &plan.changes {
            match change.clone() {
                Change::Create { topic, partitions, replication, config } => {
                    let before = after.topics.insert(topic, Found { partitions, replication, config });
                    assert_eq!(before, None, "only what is missing is created");
                }
                Change::Set { topic, key, to, .. } => {
                    after.topics.get_mut(&topic).unwrap().config.insert(key, to);
                }
            }
        }
        after
    }

    #[test]
    fn an_empty_cluster_gets_every_topic_and_then_nothing_more() {
        for (brokers, copies, insync) in [(1, 1, None), (2, 2, None), (3, 3, Some("2")), (5, 3, Some("2"))] {
            let cluster = Cluster { brokers, ..Cluster::default() };
            let first = plan(&desired(), 0, &cluster);
            let all = desired().len();
            assert_eq!((first.changes.len(), first.missing().len(), first.differences.len()), (all, all, 0));
            for change in &first.changes {
                let Change::Create { replication, config, .. } = change else { panic!("{change}") };
                assert_eq!(*replication, copies);
                assert_eq!(config.get("min.insync.replicas").map(String::as_str), insync);
            }
            assert_eq!(plan(&desired(), 0, &carry_out(&first, &cluster)), Plan::default());
        }
    }

    #[test]
    fn more_copies_than_brokers_are_told_and_not_tried() {
        let impossible = plan(&desired(), 3, &Cluster { brokers: 2, ..Cluster::default() });
        assert!(impossible.changes.is_empty() && !impossible.fits());
        assert_eq!(impossible.differences.len(), desired().len());
    }

    #[test]
    fn what_would_delete_or_lower_or_move_keys_is_told_and_left() {
        let cluster = carry_out(
            &plan(&desired(), 0, &Cluster { brokers: 3, ..Cluster::default() }),
            &Cluster { brokers: 3, ..Cluster::default() },
        );
        let spoil = |change: fn(&mut Found)| {
            let mut spoiled = cluster.clone();
            change(spoiled.topics.get_mut("autoreply.messages").unwrap());
            plan(&desired(), 0, &spoiled)
        };
        for (weight, change) in [
            (Weight::Mend, (|t: &mut Found| t.partitions = 12) as fn(&mut Found)),
            (Weight::Mend, |t| t.partitions = 96),
            (Weight::Mend, |t| t.replication = 1),
            (Weight::Left, |t| t.replication = 4),
            (Weight::Mend, |t| drop(t.config.insert("cleanup.policy".to_owned(), "compact".to_owned()))),
            (Weight::Left, |t| drop(t.config.insert("retention.ms".to_owned(), "-1".to_owned()))),
            (Weight::Left, |t| drop(t.config.insert("max.message.bytes".to_owned(), "9999999".to_owned()))),
        ] {
            let told = spoil(change);
            assert_eq!((told.changes.len(), told.differences.len()), (0, 1), "{told:?}");
            assert_eq!((told.differences[0].weight, told.fits()), (weight, weight == Weight::Left));
        }
        let raised = spoil(|t| drop(t.config.insert("retention.ms".to_owned(), "5".to_owned())));
        assert_eq!(raised.changes[0].to_string(), "~ autoreply.messages: retention.ms = 5 -> 604800000");
        let mut stranger = cluster.clone();
        stranger.topics.insert("autoreply.old".to_owned(), Found::default());
        let told = plan(&desired(), 0, &stranger);
        assert!(told.fits() && told.differences.len() == 1);
    }

    proptest! {
        #[test]
        fn carrying_a_plan_out_never_lowers_and_leaves_nothing_to_change(
            brokers in 1usize..6,
            wish in 0u16..4,
            kept in proptest::collection::vec((0i32..99, 1usize..5, -1i64..2_000_000_000, 1i64..9_000_000), 0..5),
        ) {
            let wanted = desired();
            let topics = wanted.iter().zip(&kept).map(|((name, _), (partitions, replication, retention, bytes))| {
                let config = BTreeMap::from([
                    ("cleanup.policy".to_owned(), "delete".to_owned()),
                    ("retention.ms".to_owned(), retention.to_string()),
                    ("max.message.bytes".to_owned(), bytes.to_string()),
                    ("min.insync.replicas".to_owned(), "1".to_owned()),
                ]);
                (name.clone(), Found { partitions: *partitions, replication: *replication, config })
            }).collect();
            let cluster = Cluster { brokers, topics };
            let after = carry_out(&plan(&wanted, wish, &cluster), &cluster);
            for (name, found) in &cluster.topics {
                let then = &after.topics[name];
                prop_assert_eq!((then.partitions, then.replication), (found.partitions, found.replication));
                for key in ["retention.ms", "max.message.bytes", "min.insync.replicas"] {
                    prop_assert!(endless(&then.config[key]) >= endless(&found.config[key]));
                }
                prop_assert_eq!(&then.config["cleanup.policy"], &found.config["cleanup.policy"]);
            }
            prop_assert!(plan(&wanted, wish, &after).changes.is_empty());
        }
    }
}
