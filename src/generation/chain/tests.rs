//! The chain with scripted providers, most of it on a clock that the tests turn.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::contract::Mode;
use crate::generation::breaker;
use crate::generation::observer::{Ended, Observer};
use crate::generation::provider::{Author, Provider};
use crate::generation::testing::request;
use crate::generation::validation::Newlines;

type Calls = Arc<Mutex<Vec<&'static str>>>;

/// Answers from a list, each time after `takes`; an empty list hangs. What it was asked is written down.
struct Scripted {
    name: &'static str,
    answers: Mutex<VecDeque<Result<&'static str, ProviderError>>>,
    calls: Calls,
    instant: bool,
    takes: Duration,
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> &str {
        self.name
    }
    fn author(&self) -> Author {
        Author::Model
    }
    fn is_instant(&self) -> bool {
        self.instant
    }
    async fn generate(&self, _: &DraftRequest, _: Instant) -> Result<Reply, ProviderError> {
        self.calls.lock().unwrap().push(self.name);
        let next = self.answers.lock().unwrap().pop_front();
        match next {
            Some(answer) => {
                tokio::time::sleep(self.takes).await;
                answer.map(|text| Reply::free(text.to_owned()))
            }
            None => std::future::pending().await,
        }
    }
}

type Script = (&'static str, bool, Vec<Result<&'static str, ProviderError>>);

const COOL: Duration = Duration::from_secs(60);

/// Everything that was told, in its order.
#[derive(Default)]
struct Notes(Mutex<Vec<(String, Event)>>);

impl Observer for Notes {
    fn observe(&self, provider: &str, event: Event) {
        self.0.lock().unwrap().push((provider.to_owned(), event));
    }
}

impl Notes {
    fn count(&self, provider: &str, what: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|(name, event)| name == provider && what(event)).count()
    }
}

fn chain(scripts: Vec<Script>) -> (Chain, Calls) {
    let (chain, calls, _) = observed_chain(scripts, 100, Duration::ZERO);
    (chain, calls)
}

fn observed_chain(scripts: Vec<Script>, max_in_flight: usize, takes: Duration) -> (Chain, Calls, Arc<Notes>) {
    let (calls, notes) = (Calls::default(), Arc::new(Notes::default()));
    let links = scripts
        .into_iter()
        .map(|(name, instant, answers)| {
            let answers = Mutex::new(answers.into());
            let takes = if instant { Duration::ZERO } else { takes };
            let provider = Scripted { name, answers, calls: Arc::clone(&calls), instant, takes };
            let limits = breaker::Limits { failures: 3, cool_down: COOL };
            let ceiling = if instant { Mode::Auto } else { Mode::Draft };
            Link::new(Box::new(provider), ceiling, limits, max_in_flight, Arc::clone(&notes) as Arc<dyn Observer>)
        })
        .collect();
    let rules = Rules { max_chars: 100, max_bytes: 100, newlines: Newlines::Join };
    let patience = Patience { attempts: 3, initial: Duration::from_millis(4), max: Duration::from_millis(50) };
    (Chain::new(links, rules, patience, "Ann".into()), calls, notes)
}

fn names(calls: &Calls) -> Vec<&'static str> {
    calls.lock().unwrap().clone()
}

fn within(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

fn transient() -> Result<&'static str, ProviderError> {
    Err(ProviderError::Transient("503".into()))
}

#[tokio::test(start_paused = true)]
async fn what_is_transient_is_tried_again_and_the_first_reply_wins() {
    let (chain, calls) =
        chain(vec![("a", false, vec![transient(), transient(), Ok("yes")]), ("b", true, vec![Ok("no")])]);
    let draft = chain.draft(&request(&["?"]), within(2000)).await.unwrap();
    assert_eq!(draft, Draft { text: "yes".into(), provider: "a".into(), ceiling: Mode::Draft });
    assert_eq!(*calls.lock().unwrap(), ["a", "a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn every_other_failure_goes_on_at_once_in_the_order_of_the_chain() {
    for error in [
        ProviderError::Unknown("x".into()),
        ProviderError::Permanent("x".into()),
        ProviderError::Malformed("x".into()),
        ProviderError::Declined("x".into()),
        ProviderError::Timeout,
        ProviderError::RateLimited { retry_after: Some(Duration::from_secs(30)) },
    ] {
        let (chain, calls) =
            chain(vec![("a", false, vec![Err(error)]), ("b", false, vec![Ok("/quit")]), ("c", true, vec![Ok("fine")])]);
        let draft = chain.draft(&request(&["?"]), within(2000)).await.unwrap();
        assert_eq!((draft.text.as_str(), draft.ceiling), ("fine", Mode::Auto));
        assert_eq!(*calls.lock().unwrap(), ["a", "b", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_retry_after_is_kept_and_a_long_one_also_by_the_turns_after() {
    let limited = |ms| Err(ProviderError::RateLimited { retry_after: Some(Duration::from_millis(ms)) });
    let (short, calls) = chain(vec![("a", false, vec![limited(40), Ok("yes")])]);
    let start = Instant::now();
    assert!(short.draft(&request(&["?"]), within(2000)).await.is_ok());
    assert!(start.elapsed() >= Duration::from_millis(40) && calls.lock().unwrap().len() == 2);

    let (long, calls) = chain(vec![("a", false, vec![limited(30_000), Ok("yes")])]);
    for _ in 0..2 {
        assert!(matches!(long.draft(&request(&["?"]), within(500)).await, Err(GenerationError::Exhausted { .. })));
    }
    assert_eq!(calls.lock().unwrap().len(), 1);
    assert_eq!(long.resting(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_provider_leaves_the_others_their_share() {
    let (chain, calls) = chain(vec![("a", false, vec![]), ("b", false, vec![]), ("c", true, vec![Ok("here")])]);
    let start = Instant::now();
    let draft = chain.draft(&request(&["?"]), within(400)).await.unwrap();
    assert_eq!(draft.provider, "c");
    // Of what is left a quarter is kept for the third: 150 ms of 400 for the first, then 187 ms of 250 for the second.
    let took = start.elapsed();
    assert!(took.abs_diff(Duration::from_micros(337_500)) <= Duration::from_millis(3), "{took:?}");
    assert_eq!(names(&calls), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn one_whose_calls_are_taken_is_passed_over_for_a_model_with_room() {
    let (chain, calls, notes) = observed_chain(
        vec![("a", false, vec![Ok("a"); 9]), ("b", false, vec![Ok("b"); 9]), ("c", true, vec![Ok("c"); 9])],
        2,
        Duration::from_secs(1),
    );
    let start = Instant::now();
    let requests: Vec<_> = (0..4).map(|_| request(&["?"])).collect();
    let drafts = futures::future::join_all(requests.iter().map(|request| chain.draft(request, within(10_000)))).await;
    let by: Vec<String> = drafts.into_iter().map(|draft| draft.unwrap().provider).collect();
    assert_eq!(by, ["a", "a", "b", "b"]);
    assert!(start.elapsed() < Duration::from_millis(1_100), "nobody waited for a place");
    assert_eq!(notes.count("a", |event| *event == Event::FellBack(Fallback::Full)), 2);
    assert_eq!(names(&calls), ["a", "a", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_waits_for_a_place_if_no_other_model_has_room_and_no_longer_than_its_share() {
    let script = || vec![("a", false, vec![Ok("a"); 9]), ("c", true, vec![Ok("c"); 9])];
    let (patient, _, _) = observed_chain(script(), 1, Duration::from_secs(1));
    let requests: Vec<_> = (0..3).map(|_| request(&["?"])).collect();
    let drafts = futures::future::join_all(requests.iter().map(|request| patient.draft(request, within(10_000)))).await;
    assert!(drafts.iter().all(|draft| draft.as_ref().unwrap().provider == "a"), "one after the other: {drafts:?}");

    let (short, _, notes) = observed_chain(script(), 1, Duration::from_secs(1));
    let drafts = futures::future::join_all(requests.iter().map(|request| short.draft(request, within(1_500)))).await;
    let by: Vec<String> = drafts.into_iter().map(|draft| draft.unwrap().provider).collect();
    assert_eq!(by, ["a", "c", "c"]);
    let unasked = |event: &Event| matches!(event, Event::FellBack(Fallback::Full | Fallback::NoTime));
    assert_eq!(notes.count("a", unasked), 1, "the third");
    assert_eq!(short.resting(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_place_leave_when_the_breaker_opens() {
    let (chain, calls, _) =
        observed_chain(vec![("a", false, vec![]), ("c", true, vec![Ok("c"); 99])], 3, Duration::ZERO);
    let start = Instant::now();
    let requests: Vec<_> = (0..20).map(|_| request(&["?"])).collect();
    // The three that have a place hang for their share, which opens the breaker; the later deadlines are far.
    let within = |index: usize| if index < 3 { within(1_000) } else { within(60_000) };
    let drafts = requests.iter().enumerate().map(|(index, request)| chain.draft(request, within(index)));
    assert!(futures::future::join_all(drafts).await.iter().all(Result::is_ok));
    assert!(start.elapsed() < Duration::from_millis(1_000), "{:?}", start.elapsed());
    assert_eq!(names(&calls).iter().filter(|name| **name == "a").count(), 3);
}

/// A chain whose first provider hangs and is left alone for it, with a healthy one after it.
async fn with_a_hanging_first(answers: Vec<Result<&'static str, ProviderError>>) -> (Chain, Calls, Arc<Notes>) {
    let script = vec![("a", false, answers), ("b", false, vec![Ok("b"); 999])];
    let (chain, calls, notes) = observed_chain(script, 100, Duration::from_millis(20));
    for _ in 0..3 {
        assert_eq!(chain.draft(&request(&["?"]), within(4_000)).await.unwrap().provider, "b");
    }
    assert_eq!(chain.resting(), ["a"]);
    calls.lock().unwrap().clear();
    (chain, calls, notes)
}

#[tokio::test(start_paused = true)]
async fn no_turn_pays_for_a_probe_and_there_is_one_a_cool_down() {
    let (chain, calls, notes) = with_a_hanging_first(vec![]).await;
    let mut probes = 0;
    for _ in 0..400 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let start = Instant::now();
        assert_eq!(chain.draft(&request(&["?"]), within(30_000)).await.unwrap().provider, "b");
        let extra = start.elapsed().saturating_sub(Duration::from_millis(20));
        assert!(extra <= HEAD_START + Duration::from_millis(5), "{extra:?}");
        probes = names(&calls).iter().filter(|name| **name == "a").count();
    }
    // A probe hangs for its minute, and then the cool-down begins.
    assert!((3..=6).contains(&probes), "{probes} probes");
    assert_eq!(notes.count("a", |event| *event == Event::Breaker(true)), 1);
    assert_eq!(notes.count("a", |event| *event == Event::Breaker(false)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_outlives_its_turn_still_heals_the_provider() {
    let (chain, calls, notes) = observed_chain(
        vec![
            ("a", false, vec![transient(), transient(), transient(), Ok("a"), Ok("a")]),
            ("b", true, vec![Ok("b"); 9]),
        ],
        100,
        Duration::from_secs(2),
    );
    assert_eq!(chain.draft(&request(&["?"]), within(30_000)).await.unwrap().provider, "b");
    tokio::time::advance(COOL).await;
    assert_eq!(chain.draft(&request(&["?"]), within(30_000)).await.unwrap().provider, "b", "it does not wait 2 s");
    assert_eq!(chain.resting(), ["a"], "while it is probed");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(chain.draft(&request(&["?"]), within(30_000)).await.unwrap().provider, "a");
    assert_eq!(notes.count("a", |event| *event == Event::Breaker(false)), 1);
    assert_eq!(names(&calls), ["a", "a", "a", "b", "a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_quick_probe_answers_its_turn_and_the_last_provider_is_waited_for() {
    let (chain, _, _) = observed_chain(
        vec![("a", false, vec![transient(), transient(), transient(), Ok("a")]), ("b", true, vec![Ok("b"); 9])],
        100,
        Duration::from_millis(50),
    );
    assert_eq!(chain.draft(&request(&["?"]), within(30_000)).await.unwrap().provider, "b");
    tokio::time::advance(COOL).await;
    assert_eq!(chain.draft(&request(&["?"]), within(30_000)).await.unwrap().provider, "a");

    let last = vec![("a", false, vec![transient(), transient(), transient(), Ok("a")])];
    let (alone, _, _) = observed_chain(last, 100, Duration::from_secs(5));
    assert!(alone.draft(&request(&["?"]), within(30_000)).await.is_err());
    tokio::time::advance(COOL).await;
    assert_eq!(alone.draft(&request(&["?"]), within(30_000)).await.unwrap().provider, "a");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_dropped_gives_its_place_back_and_says_nothing_about_the_provider() {
    let (chain, calls, notes) = observed_chain(vec![("a", false, vec![])], 2, Duration::ZERO);
    for _ in 0..20 {
        let asked = request(&["?"]);
        let dropped = tokio::time::timeout(Duration::from_secs(5), chain.draft(&asked, within(30_000))).await;
        assert!(dropped.is_err());
    }
    assert_eq!((names(&calls).len(), chain.resting()), (20, vec![]));
    let abandoned = |event: &Event| matches!(event, Event::Ended { how: Ended::Abandoned, .. });
    assert_eq!((notes.count("a", |event| *event == Event::Began), notes.count("a", abandoned)), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_blocks_nothing() {
    let script = vec![("a", false, vec![transient(), transient(), transient()])];
    let (chain, calls, _) = observed_chain(script, 100, Duration::ZERO);
    assert!(chain.draft(&request(&["?"]), within(30_000)).await.is_err());
    for _ in 0..3 {
        tokio::time::advance(COOL).await;
        let asked = request(&["?"]);
        // It hangs, and its turn is superseded.
        assert!(tokio::time::timeout(Duration::from_secs(1), chain.draft(&asked, within(30_000))).await.is_err());
        assert!(chain.draft(&asked, within(30_000)).await.is_err(), "not again within the cool-down");
    }
    assert_eq!(names(&calls).len(), 3 + 3);
}

#[tokio::test(start_paused = true)]
async fn the_end_tells_whether_it_was_time_or_providers() {
    let (hangs, _) = chain(vec![("a", false, vec![])]);
    let error = hangs.draft(&request(&["my secret"]), within(50)).await.unwrap_err();
    assert!(matches!(&error, GenerationError::Deadline { .. }) && !error.to_string().contains("secret"));
    let (fails, _) =
        chain(vec![("a", false, vec![Err(ProviderError::Permanent("no key".into()))]), ("b", true, vec![Ok("")])]);
    let error = fails.draft(&request(&["?"]), within(500)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no provider gave a reply: a failed for good: no key; b its reply was rejected: the reply is empty"
    );
    assert!(matches!(fails.draft(&request(&["?"]), Instant::now()).await, Err(GenerationError::Deadline { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_for_a_single_provider_too_but_not_for_what_it_declines() {
    let (failing, calls) = chain(vec![("a", false, vec![transient(), transient(), transient(), Ok("late")])]);
    for _ in 0..3 {
        assert!(failing.draft(&request(&["?"]), within(500)).await.is_err());
    }
    assert_eq!(calls.lock().unwrap().len(), 3);
    let declined = || Err(ProviderError::Declined("no".into()));
    let (declining, calls) = chain(vec![("a", true, (0..9).map(|_| declined()).collect())]);
    for _ in 0..9 {
        assert!(declining.draft(&request(&["?"]), within(500)).await.is_err());
    }
    assert_eq!(calls.lock().unwrap().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_comes_too_late_is_not_held_against_the_provider() {
    let (hangs, calls) = chain(vec![("a", false, vec![])]);
    for _ in 0..4 {
        assert!(hangs.draft(&request(&["?"]), within(10)).await.is_err());
    }
    assert_eq!((calls.lock().unwrap().len(), hangs.resting()), (4, vec![]));
    for _ in 0..3 {
        assert!(hangs.draft(&request(&["?"]), within(510)).await.is_err());
    }
    assert_eq!(hangs.resting(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_whose_own_limit_is_short_is_held_to_it() {
    let (quick, calls) = chain(vec![("a", false, vec![Err(ProviderError::Timeout); 9])]);
    for _ in 0..9 {
        assert!(quick.draft(&request(&["?"]), within(5_000)).await.is_err());
    }
    assert_eq!((names(&calls).len(), quick.resting()), (3, vec!["a"]));
}

proptest! {
    #[test]
    fn shares_leave_something_for_everyone(ms in 1_u64..100_000, slow in 0_usize..10, instant: bool) {
        let left = Duration::from_millis(ms);
        let mine = share(left, slow, instant);
        prop_assert!(mine > Duration::ZERO && mine * (slow as u32 + 1) <= left);
        prop_assert!(!instant || mine < left);
    }

    #[test]
    fn waits_grow_within_their_bounds(attempts in 1_u32..100, seed: u64) {
        let patience = Patience { attempts: 3, initial: Duration::from_millis(100), max: Duration::from_secs(2) };
        let wait = backoff_wait(patience, attempts, seed);
        prop_assert!(wait >= patience.initial / 2 && wait <= patience.max);
    }
}
