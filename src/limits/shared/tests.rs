use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redis::Commands as _;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::testing::Redis;
use crate::clock::{Clock, ManualClock};
use crate::contract::ConversationId;
use crate::limits::{Observer, Opened, Settings, conformance, examine, open};
use crate::saga::{Admission, Exchange, Limits, Memory};
use crate::testing::{Server, address};

/// Counts what the metrics are told.
#[derive(Default)]
struct Told {
    away: AtomicU64,
    back: AtomicU64,
    fallbacks: AtomicU64,
}

impl Told {
    fn counts(&self) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (of(&self.away), of(&self.back), of(&self.fallbacks))
    }

    /// Waits until Redis came back for the `times`th time.
    async fn back(&self, times: u64) {
        for _ in 0..500 {
            if self.back.load(Ordering::SeqCst) >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("Redis did not come back {times} times: {:?}", self.counts());
    }
}

impl Observer for Told {
    fn shared(&self, is_there: bool) {
        if is_there { &self.back } else { &self.away }.fetch_add(1, Ordering::SeqCst);
    }
    fn fell_back(&self) {
        self.fallbacks.fetch_add(1, Ordering::SeqCst);
    }
}

/// A worker's limits on a Redis, with their upkeep; what the test leaves in a shared one expires or is removed.
struct Fixture {
    limits: Arc<dyn Limits>,
    memory: Arc<dyn Memory>,
    clock: Arc<ManualClock>,
    told: Arc<Told>,
    stop: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn settings(url: &str, prefix: &str) -> Settings {
    Settings {
        redis_url: url.to_owned(),
        redis_prefix: prefix.to_owned(),
        // A busy machine must not look like a Redis that is away.
        redis_timeout_ms: 3000,
        redis_probe_ms: 200,
        memory_exchanges: 4,
        ..Settings::sample()
    }
}

fn prefix(test: &str) -> String {
    format!("autoreply-test-{test}-{}", uuid::Uuid::new_v4().simple())
}

#[allow(clippy::disallowed_methods, reason = "a test has no supervisor")]
async fn fixture(settings: &Settings, password: Option<&SecretString>) -> Fixture {
    assert_eq!(settings.check(), Ok(()));
    let clock = Arc::new(ManualClock::new("2026-03-02T10:00:00Z".parse::<Timestamp>().unwrap()));
    let (told, stop) = (Arc::new(Told::default()), CancellationToken::new());
    let opened: Opened = open(settings, password, clock.clone(), told.clone()).await.unwrap();
    tokio::spawn(opened.upkeep.unwrap().run(stop.clone()));
    Fixture { limits: opened.limits, memory: opened.memory, clock, told, stop }
}

fn conversation(peer: &str) -> ConversationId {
    ConversationId::derive("limits", "me", peer)
}

/// A connection beside the one under test.
fn beside(url: &str) -> redis::Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

/// Lets `by` pass for every rate under `prefix`: an arrival time moved back is a clock moved on.
fn age(url: &str, prefix: &str, by: Duration) {
    let mut redis = beside(url);
    let keys: Vec<String> = redis.scan_match(format!("{prefix}:rate:*")).unwrap().map(Result::unwrap).collect();
    for key in keys {
        let arrival: f64 = redis.get(&key).unwrap();
        let moved = format!("{:.0}", arrival - by.as_micros() as f64);
        redis::cmd("SET").arg(&key).arg(moved).arg("KEEPTTL").exec(&mut redis).unwrap();
    }
}

fn exchange(clock: &ManualClock, text: &str) -> Exchange {
    Exchange { inbound: text.to_owned(), reply: format!("re {text}"), at: clock.now() }
}

#[tokio::test]
async fn limits_conform() {
    let Some(url) = address(Server::Redis, "limits_conform") else { return };
    let prefix = prefix("rate");
    let fixture = fixture(&settings(&url, &prefix), None).await;
    conformance::limits(fixture.limits.as_ref(), 6, 3, |by| age(&url, &prefix, by)).await;
    assert_eq!(fixture.told.counts(), (0, 1, 0), "all of it was answered by Redis");

    let mut redis = beside(&url);
    let keys: Vec<String> = redis.scan_match(format!("{prefix}:*")).unwrap().map(Result::unwrap).collect();
    assert_eq!(keys.iter().filter(|key| key.contains(":rate:")).count(), 2, "a key a conversation: {keys:?}");
    for key in keys {
        let left: i64 = redis.pttl(&key).unwrap();
        assert!(left != -1 && left <= 30_000, "{key} ends when its rate has recovered: {left} ms");
    }
}

#[tokio::test]
async fn memory_conforms() {
    let Some(url) = address(Server::Redis, "memory_conforms") else { return };
    let prefix = prefix("memory");
    let fixture = fixture(&settings(&url, &prefix), None).await;
    let clock = fixture.clock.clone();
    conformance::memory(fixture.memory.as_ref(), clock.now(), 4, |by| clock.advance(by)).await;
    assert_eq!(fixture.told.counts(), (0, 1, 0), "all of it was answered by Redis");
}

#[tokio::test]
async fn text_ends_by_itself_and_is_gone_when_forgotten() {
    let Some(url) = address(Server::Redis, "text_ends_by_itself_and_is_gone_when_forgotten") else { return };
    let (prefix, peer) = (prefix("ttl"), conversation("alice"));
    let fixture = fixture(&settings(&url, &prefix), None).await;
    let mut redis = beside(&url);
    let mut keys =
        || -> Vec<String> { redis.scan_match(format!("{prefix}:memory:*")).unwrap().map(Result::unwrap).collect() };
    let early = exchange(&fixture.clock, "early");
    fixture.clock.advance(Duration::from_secs(3600));
    for n in 0..6 {
        fixture.memory.remember(peer, exchange(&fixture.clock, &n.to_string())).await.unwrap();
        fixture.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(keys().len(), 4 + 1, "what was pushed out is deleted, not only taken off the index");
    fixture.memory.forget(peer).await.unwrap();
    assert_eq!(keys(), Vec::<String>::new());

    fixture.memory.remember(peer, early).await.unwrap();
    fixture.memory.remember(peer, exchange(&fixture.clock, "late")).await.unwrap();
    let mut lives: Vec<i64> = keys().iter().map(|key| beside(&url).pttl(key).unwrap()).collect();
    lives.sort_unstable();
    let hour = 3_600_000;
    assert!(lives[0] > 22 * hour && lives[0] <= 23 * hour, "the early one has an hour less: {lives:?}");
    assert!(lives[1] > 23 * hour && lives[2] <= 24 * hour, "the late one and the index a day: {lives:?}");
    fixture.memory.forget(peer).await.unwrap();
}

#[tokio::test]
async fn two_workers_share_one_rate() {
    let Some(url) = address(Server::Redis, "two_workers_share_one_rate") else { return };
    let settings = settings(&url, &prefix("two"));
    let (one, two) = (fixture(&settings, None).await, fixture(&settings, None).await);
    let asked = (0..40).map(|n| {
        let limits = if n % 2 == 0 { one.limits.clone() } else { two.limits.clone() };
        async move { limits.admit(conversation("alice")).await.unwrap() }
    });
    let answers = futures::future::join_all(asked).await;
    let admitted = answers.iter().filter(|answer| **answer == Admission::Admitted).count();
    assert_eq!(admitted, 3, "one burst between them");
    assert_eq!((one.told.counts().2, two.told.counts().2), (0, 0));
}

#[tokio::test]
async fn a_key_that_is_no_rate_shuts_nobody_up() {
    let Some(url) = address(Server::Redis, "a_key_that_is_no_rate_shuts_nobody_up") else { return };
    let prefix = prefix("odd");
    let fixture = fixture(&settings(&url, &prefix), None).await;
    let key = |peer: &str| format!("{prefix}:rate:{{{}}}", conversation(peer));
    let mut redis = beside(&url);
    // A clock that went back by an hour, a foreign text, a foreign type.
    let () = redis.set_ex(key("past"), "9000000000000000", 60).unwrap();
    let () = redis.set_ex(key("text"), "soon", 60).unwrap();
    let () = redis.lpush(key("type"), "x").unwrap();
    let Ok(Admission::After(wait)) = fixture.limits.admit(conversation("past")).await else { panic!("not far ahead") };
    assert!(wait <= Duration::from_secs(10), "{wait:?}");
    assert_eq!(fixture.limits.admit(conversation("text")).await, Ok(Admission::Admitted));
    assert_eq!(fixture.limits.admit(conversation("type")).await, Ok(Admission::Admitted));
    assert_eq!(fixture.told.counts(), (0, 1, 1), "one answered here, and Redis is not given up for it");
    let () = redis.del(key("type")).unwrap();
}

#[tokio::test]
async fn killed_it_goes_local_once_and_comes_back_by_itself() {
    let Some(mut redis) = Redis::start("killed_it_goes_local_once_and_comes_back_by_itself", &[]) else { return };
    let fixture = fixture(&settings(&redis.url(), "t"), None).await;
    let (alice, bob) = (conversation("alice"), conversation("bob"));
    assert_eq!(fixture.limits.admit(alice).await, Ok(Admission::Admitted));
    fixture.memory.remember(alice, exchange(&fixture.clock, "one")).await.unwrap();
    assert_eq!(fixture.memory.recall(alice).await.unwrap().len(), 1);

    redis.kill();
    let began = Instant::now();
    // Alice's reply from before counts here too, and a local burst is one.
    assert!(matches!(fixture.limits.admit(alice).await, Ok(Admission::After(_))));
    assert_eq!(fixture.limits.admit(bob).await, Ok(Admission::Admitted));
    assert!(matches!(fixture.limits.admit(bob).await, Ok(Admission::After(_))), "not a burst in each worker");
    assert_eq!(fixture.memory.recall(alice).await, Ok(vec![]), "no error to the turn");
    assert_eq!(fixture.memory.remember(alice, exchange(&fixture.clock, "two")).await, Ok(()));
    assert!(fixture.memory.forget(alice).await.is_err(), "nobody is told that text is gone which is not");
    for n in 0..1000 {
        fixture.limits.admit(conversation(&n.to_string())).await.unwrap();
    }
    // A thousand turns at one command timeout each would be the better part of an hour.
    assert!(began.elapsed() < Duration::from_secs(30), "a lost Redis is paid for once");
    let (away, back, fallbacks) = fixture.told.counts();
    assert_eq!((away, back), (1, 1), "one change, told once");
    assert!(fallbacks >= 1005, "{fallbacks}");

    redis.run();
    fixture.told.back(2).await;
    let before = fixture.told.counts().2;
    assert_eq!(fixture.limits.admit(bob).await, Ok(Admission::Admitted), "by Redis, which knows nothing of before");
    fixture.memory.remember(bob, exchange(&fixture.clock, "three")).await.unwrap();
    assert_eq!(fixture.memory.recall(bob).await.unwrap().len(), 1);
    assert_eq!(fixture.told.counts(), (1, 2, before));
}

#[tokio::test]
async fn hung_it_costs_one_timeout() {
    let Some(redis) = Redis::start("hung_it_costs_one_timeout", &[]) else { return };
    let patient = settings(&redis.url(), "t");
    let fixture = fixture(&Settings { redis_probe_ms: 60_000, redis_timeout_ms: 300, ..patient }, None).await;
    redis.freeze();
    let began = Instant::now();
    assert_eq!(fixture.limits.admit(conversation("alice")).await, Ok(Admission::Admitted));
    assert!(began.elapsed() >= Duration::from_millis(300), "the command timeout was waited for");
    assert!(began.elapsed() < Duration::from_secs(10));
    let (away, back, _) = fixture.told.counts();
    assert_eq!((away, back), (1, 1));
    redis.thaw();
    fixture.told.back(2).await;
}

#[tokio::test]
async fn thousands_at_once_are_no_outage_and_an_outage_is_told_to_all_at_once() {
    let Some(redis) = Redis::start("thousands_at_once", &[]) else { return };
    let patient = settings(&redis.url(), "t");
    let fixture = fixture(&Settings { redis_probe_ms: 60_000, ..patient }, None).await;
    let ask_all = || {
        let asked = (0..5000).map(|n| {
            let limits = fixture.limits.clone();
            async move { limits.admit(conversation(&n.to_string())).await.unwrap() }
        });
        futures::future::join_all(asked)
    };
    assert!(ask_all().await.iter().all(|answer| *answer == Admission::Admitted));
    assert_eq!(fixture.told.counts(), (0, 1, 0));
    redis.freeze();
    ask_all().await;
    let (away, back, fallbacks) = fixture.told.counts();
    assert_eq!((away, back, fallbacks), (1, 1, 5000), "one timeout for all of them");
    redis.thaw();
    fixture.told.back(2).await;
}

#[tokio::test]
async fn flushed_it_goes_on() {
    let Some(redis) = Redis::start("flushed_it_goes_on", &[]) else { return };
    let fixture = fixture(&settings(&redis.url(), "t"), None).await;
    let alice = conversation("alice");
    for _ in 0..4 {
        let _spent = fixture.limits.admit(alice).await;
    }
    fixture.memory.remember(alice, exchange(&fixture.clock, "one")).await.unwrap();
    let mut beside = beside(&redis.url());
    redis::cmd("FLUSHALL").exec(&mut beside).unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut beside).unwrap();
    assert_eq!(fixture.limits.admit(alice).await, Ok(Admission::Admitted), "a fresh rate");
    assert_eq!(fixture.memory.recall(alice).await, Ok(vec![]));
    fixture.memory.remember(alice, exchange(&fixture.clock, "two")).await.unwrap();
    assert_eq!(fixture.memory.recall(alice).await.unwrap().len(), 1);
    assert_eq!(fixture.told.counts(), (0, 1, 0), "nothing of it was a fallback");
}

#[tokio::test]
async fn a_dropped_connection_fails_one_command_and_only_what_may_run_twice_runs_again() {
    let name = "a_dropped_connection_fails_one_command_and_only_what_may_run_twice_runs_again";
    let Some(redis) = Redis::start(name, &[]) else { return };
    let fixture = fixture(&Settings { redis_probe_ms: 60_000, ..settings(&redis.url(), "t") }, None).await;
    let alice = conversation("alice");
    fixture.memory.remember(alice, exchange(&fixture.clock, "one")).await.unwrap();
    let mut beside = beside(&redis.url());
    let drop_all = |beside: &mut redis::Connection| {
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").exec(beside).unwrap();
    };
    drop_all(&mut beside);
    assert_eq!(fixture.memory.recall(alice).await.unwrap().len(), 1, "a recall runs again on the next connection");
    assert_eq!(fixture.told.counts(), (1, 2, 0));
    drop_all(&mut beside);
    assert_eq!(fixture.limits.admit(alice).await, Ok(Admission::Admitted));
    assert_eq!(fixture.told.counts().2, 1, "a rate is not taken from twice: this one was admitted here");
    fixture.told.back(3).await;
    let key = format!("t:rate:{{{alice}}}");
    assert!(!beside.exists::<_, bool>(&key).unwrap(), "nor was it taken from in Redis");
}

#[tokio::test]
async fn a_redis_that_comes_later_is_found() {
    let Some(mut redis) = Redis::start("a_redis_that_comes_later_is_found", &[]) else { return };
    redis.kill();
    let fixture = fixture(&settings(&redis.url(), "t"), None).await;
    assert_eq!(fixture.limits.admit(conversation("alice")).await, Ok(Admission::Admitted));
    assert_eq!(fixture.told.counts(), (1, 0, 1));
    redis.run();
    fixture.told.back(1).await;
}

#[tokio::test]
async fn a_password_is_given_and_a_wrong_one_is_told() {
    let Some(redis) = Redis::start("a_password_is_given_and_a_wrong_one_is_told", &["--requirepass", "open sesame"])
    else {
        return;
    };
    let settings = settings(&redis.url(), "t");
    let right = SecretString::from("open sesame");
    let fixture = fixture(&settings, Some(&right)).await;
    assert_eq!(fixture.limits.admit(conversation("alice")).await, Ok(Admission::Admitted));
    assert_eq!(fixture.told.counts(), (0, 1, 0));
    assert!(examine(&settings, Some(&right)).await.unwrap().version.contains('.'));
    let problem = examine(&settings, Some(&SecretString::from("wrong one"))).await.unwrap_err();
    assert!(problem.place == "limits.redis_url" && !problem.to_string().contains("wrong one"), "{problem}");
    assert!(examine(&settings, None).await.is_err());
}

/// A certificate of its own for 127.0.0.1, and its key, as `ca.pem` and `key.pem` in `directory`.
fn certify(directory: &std::path::Path) -> bool {
    std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("ca.pem"))
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[tokio::test]
async fn it_speaks_tls_and_trusts_only_what_it_was_told_to() {
    const NAME: &str = "it_speaks_tls_and_trusts_only_what_it_was_told_to";
    let directory = tempfile::tempdir().unwrap();
    if !certify(directory.path()) {
        return crate::testing::skip(NAME, "openssl cannot make a certificate");
    }
    let (certificate, key) = (directory.path().join("ca.pem"), directory.path().join("key.pem"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tls_port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let more = ["--tls-port", &tls_port, "--tls-auth-clients", "no", "--tls-cert-file", certificate.to_str().unwrap()];
    let more = [&more[..], &["--tls-key-file", key.to_str().unwrap()]].concat();
    let Some(_redis) = Redis::start(NAME, &more) else { return };
    let trusting = Settings {
        redis_ca_file: certificate.display().to_string(),
        ..settings(&format!("rediss://127.0.0.1:{tls_port}"), "t")
    };
    let fixture = fixture(&trusting, None).await;
    assert_eq!(fixture.limits.admit(conversation("alice")).await, Ok(Admission::Admitted));
    assert_eq!(fixture.told.counts(), (0, 1, 0), "by Redis, over TLS");
    let doubting = Settings { redis_ca_file: String::new(), ..trusting };
    assert!(examine(&doubting, None).await.is_err(), "a certificate nobody vouches for");
}
