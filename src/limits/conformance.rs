//! What every adapter of [`Limits`] and [`Memory`] must do, whatever it keeps its state in.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{from_millis, to_millis};
use crate::contract::ConversationId;
use crate::saga::{Admission, Exchange, Limits, Memory};

fn conversation(peer: &str) -> ConversationId {
    ConversationId::derive("conformance", "me", peer)
}

/// A rate of `per_minute` with a `burst`; `advance` moves the adapter's time.
pub async fn limits(limits: &dyn Limits, per_minute: u32, burst: u32, advance: impl Fn(Duration)) {
    let (alice, bob) = (conversation("alice"), conversation("bob"));
    for _ in 0..burst {
        assert_eq!(limits.admit(alice).await, Ok(Admission::Admitted), "a burst is admitted");
    }
    let Ok(Admission::After(wait)) = limits.admit(alice).await else { panic!("the burst is over") };
    let step = Duration::from_secs(60) / per_minute;
    assert!(wait > Duration::ZERO && wait <= step, "{wait:?} is not up to {step:?}");
    assert_eq!(limits.admit(bob).await, Ok(Admission::Admitted), "another conversation has its own rate");

    advance(wait / 2);
    assert!(matches!(limits.admit(alice).await, Ok(Admission::After(_))), "half the wait is too early");
    advance(wait - wait / 2);
    assert_eq!(limits.admit(alice).await, Ok(Admission::Admitted), "the wait that was told is enough");
    assert!(matches!(limits.admit(alice).await, Ok(Admission::After(_))), "a refusal earned nothing");

    advance(Duration::from_secs(3600));
    let mut admitted = 0;
    while limits.admit(alice).await == Ok(Admission::Admitted) {
        admitted += 1;
        assert!(admitted <= burst, "quiet time saves up no more than a burst");
    }
    assert_eq!(admitted, burst);
}

/// A memory of a day with `exchanges` a conversation; `now` is its time and `advance` moves it.
pub async fn memory(memory: &dyn Memory, now: Timestamp, exchanges: usize, advance: impl Fn(Duration)) {
    let (alice, bob) = (conversation("alice"), conversation("bob"));
    let exchange = |seconds: i64, text: &str| Exchange {
        inbound: text.to_owned(),
        reply: format!("re {text}"),
        at: from_millis(to_millis(now) + seconds * 1000),
    };
    assert_eq!(memory.recall(alice).await, Ok(vec![]), "nothing is remembered at first");

    let (one, two, three) = (exchange(0, "one"), exchange(1, "two"), exchange(2, "three"));
    for late in [&one, &three, &two, &two] {
        memory.remember(alice, late.clone()).await.unwrap();
    }
    let all = vec![one, two, three];
    assert_eq!(memory.recall(alice).await, Ok(all.clone()), "oldest first, what comes twice is kept once");
    assert_eq!(memory.recall(alice).await, Ok(all), "to recall changes nothing");
    assert_eq!(memory.recall(bob).await, Ok(vec![]), "conversations are apart");

    for number in 0..exchanges {
        memory.remember(bob, exchange(number as i64, &number.to_string())).await.unwrap();
    }
    memory.remember(bob, exchange(exchanges as i64, "last")).await.unwrap();
    let kept = memory.recall(bob).await.unwrap();
    assert_eq!((kept.len(), kept[0].inbound.as_str()), (exchanges, "1"), "the oldest goes when it is full");

    memory.forget(bob).await.unwrap();
    assert_eq!(memory.recall(bob).await, Ok(vec![]), "what is forgotten is gone");
    memory.forget(bob).await.unwrap();

    advance(Duration::from_secs(86_400 + 1));
    let kept = memory.recall(alice).await.unwrap();
    assert_eq!(kept.len(), 1, "an exchange lives a day: one and two are over, three is not");
    memory.remember(alice, exchange(-5, "ancient")).await.unwrap();
    assert_eq!(memory.recall(alice).await, Ok(kept), "what comes too late is not remembered");
    advance(Duration::from_secs(10));
    assert_eq!(memory.recall(alice).await, Ok(vec![]));
}
