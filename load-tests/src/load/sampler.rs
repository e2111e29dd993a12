//! Processor time and memory of each process, as the kernel counts them, with all of its children.
//!
//! Memory is the proportional set size: what a process has for itself, and its share of what it has with others. For
//! PostgreSQL, whose processes share most of theirs, only that can be added up.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a process took since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Cores: seconds of processor time a second.
    pub cores: f64,
    /// Memory in MB (10^6 bytes).
    pub mb: f64,
}

/// All processes at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// When, in milliseconds of the Unix epoch.
    pub at_ms: i64,
    /// By the processes' names.
    pub usage: BTreeMap<String, Usage>,
    /// Records that the workers have not taken yet.
    pub lag: Option<i64>,
    /// Messages that were planned until now and have no reply yet.
    pub waiting: i64,
}

/// Takes samples of processes.
#[derive(Debug, Default)]
pub struct Sampler {
    watched: Vec<(String, u32, bool)>,
    before: HashMap<String, f64>,
    before_ms: Option<i64>,
}

impl Sampler {
    /// Watches a process and its children under this name, instead of the one that had it before.
    pub fn watch(&mut self, name: &str, pid: u32) {
        self.watched.retain(|(watched, _, _)| watched != name);
        self.watched.push((name.to_owned(), pid, true));
    }

    /// Watches this process without its children, which may be watched by themselves.
    pub fn watch_self(&mut self, name: &str) {
        self.watched.push((name.to_owned(), std::process::id(), false));
    }

    /// What each took since the call before; no cores at the first one.
    pub fn take(&mut self, now_ms: i64) -> BTreeMap<String, Usage> {
        let children = children();
        let passed = self.before_ms.map(|before| (now_ms - before) as f64 / 1e3).filter(|seconds| *seconds > 0.0);
        self.before_ms = Some(now_ms);
        let mut usage = BTreeMap::new();
        for (name, pid, whole) in &self.watched {
            let family = if *whole { family(*pid, &children) } else { vec![*pid] };
            let seconds: f64 = family.iter().filter_map(|pid| cpu_seconds(*pid)).sum();
            let mb: f64 = family.iter().filter_map(|pid| pss_mb(*pid)).sum();
            let before = self.before.insert(name.clone(), seconds);
            // A child that ended takes its time with it: that is no negative use.
            let cores = before.zip(passed).map_or(0.0, |(before, passed)| ((seconds - before) / passed).max(0.0));
            usage.insert(name.clone(), Usage { cores, mb });
        }
        usage
    }
}

/// Who listens at this address of this machine, if it may be seen.
pub fn listener(address: SocketAddr) -> Option<u32> {
    let port = format!(":{:04X}", address.port());
    let listens = |line: &str| {
        let mut fields = line.split_whitespace();
        let (local, state, inode) = (fields.nth(1)?, fields.nth(1)?, fields.nth(5)?);
        (local.ends_with(&port) && state == "0A").then(|| format!("socket:[{inode}]"))
    };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let socket = tables.iter().flat_map(|table| table.lines()).find_map(listens)?;
    // The oldest of those that have it: children inherit it.
    pids()
        .filter(|pid| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == socket.as_str())
        })
        .min()
}

/// The most memory that a process ever had resident, in MB.
pub fn peak_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kilobytes(&status, "VmHWM:")
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Children by parent.
fn children() -> HashMap<u32, Vec<u32>> {
    let mut all: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            all.entry(parent).or_default().push(pid);
        }
    }
    all
}

fn family(pid: u32, children: &HashMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        all.extend(children.get(&pid).into_iter().flatten());
        at += 1;
    }
    all
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// User and system time; of ended children too, which the kernel adds to their parent when they are waited for.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let fields = stat(pid)?;
    let ticks = fields.get(11..13)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

fn pss_mb(pid: u32) -> Option<f64> {
    kilobytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

fn kilobytes(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured_and_its_listener_found() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(listening.local_addr().unwrap()), Some(std::process::id()));
        let mut sampler = Sampler::default();
        sampler.watch_self("me");
        sampler.take(0);
        let began = std::time::Instant::now();
        let mut work = 0u64;
        while began.elapsed() < std::time::Duration::from_millis(300) {
            work = work.wrapping_mul(31).wrapping_add(1);
        }
        assert_ne!(work, 1);
        let usage = sampler.take(300)["me"];
        assert!(usage.cores > 0.05 && usage.mb > 1.0, "{usage:?}");
        assert!(peak_mb(std::process::id()).unwrap() > 1.0);
    }

    #[test]
    fn children_are_counted_with_their_parents() {
        let tree = HashMap::from([(1, vec![2, 3]), (3, vec![4])]);
        assert_eq!(family(1, &tree), [1, 2, 3, 4]);
        assert_eq!(family(9, &tree), [9]);
    }
}
