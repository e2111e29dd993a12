use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::clock::from_millis;
use crate::policy::ownership::{Ownership, Standing, decide};

const HOLD: Duration = Duration::from_secs(45);

fn account() -> Account {
    Account { application: "hexchat".to_owned(), network: "irc".to_owned(), account: "me".to_owned() }
}

fn id(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

/// A hello of this process, said at `at` milliseconds on its clock.
fn hello(journal: u128, instance: u128, started: i64, at: i64) -> DesktopHello {
    DesktopHello {
        desktop: DesktopId::try_from(format!("desk-{journal}")).unwrap(),
        journal: JournalId(id(journal)),
        instance: InstanceId(id(instance)),
        started_at: from_millis(started),
        version: "0.2.0".to_owned(),
        host: "office".to_owned(),
        seat: String::new(),
        accounts: vec![account()],
        interval_ms: 10_000,
        leaving: false,
        at: from_millis(at),
    }
}

/// What a ledger does with the rules, without one.
#[derive(Default)]
struct Book {
    tenants: BTreeMap<JournalId, Tenant>,
    owner: Option<Owner>,
}

impl Book {
    fn hear(&mut self, hello: &DesktopHello, now: i64) -> DesktopGreeted {
        let now = from_millis(now);
        let tenant = Tenant::after(self.tenants.get(&hello.journal), hello, now, HOLD);
        self.owner = greet(self.owner.as_ref(), hello, &tenant, now, HOLD);
        let told = vec![tell(&account(), self.owner.as_ref(), hello, now)];
        let greeted = answer(hello, &tenant, told, now, HOLD);
        self.tenants.insert(hello.journal, tenant);
        greeted
    }
}

#[test]
fn one_of_two_desks_owns_until_it_is_silent_and_then_the_token_rises() {
    let mut book = Book::default();
    let first = book.hear(&hello(1, 10, 0, 1_000), 1_000);
    assert!(first.accounts[0].owned && first.accounts[0].token == 1 && first.current);
    let other = book.hear(&hello(2, 20, 0, 2_000), 2_000);
    assert!(!other.accounts[0].owned);
    assert_eq!(other.accounts[0].why, "desk-1 answers for this account");
    assert_eq!(book.hear(&hello(1, 10, 0, 11_000), 11_000).accounts[0].token, 1, "a heartbeat renews");
    assert!(!book.hear(&hello(2, 20, 0, 55_999), 55_999).accounts[0].owned);
    let taken = book.hear(&hello(2, 20, 0, 56_000), 56_000);
    assert!(taken.accounts[0].owned);
    assert_eq!((taken.accounts[0].token, taken.accounts[0].since, taken.accounts[0].inherit_ms), (2, 2, 0));
    let back = book.hear(&hello(1, 10, 0, 60_000), 60_000);
    assert!(!back.accounts[0].owned && back.current && !back.cloned);
}

#[test]
fn who_leaves_gives_way_at_once_and_who_comes_back_in_time_keeps_its_reign() {
    let mut book = Book::default();
    book.hear(&hello(1, 10, 0, 1_000), 1_000);
    let crashed = book.hear(&hello(1, 11, 5_000, 5_000), 5_000);
    let told = &crashed.accounts[0];
    assert!(told.owned && !crashed.cloned);
    assert_eq!((told.token, told.since, told.inherit_ms), (2, 1, 41_000), "the process before may be alive that long");
    let leaving = DesktopHello { leaving: true, ..hello(1, 11, 5_000, 6_000) };
    assert!(!book.hear(&leaving, 6_000).accounts[0].owned);
    let restarted = book.hear(&hello(1, 12, 7_000, 7_000), 7_000);
    assert_eq!((restarted.accounts[0].token, restarted.accounts[0].since), (3, 1));
    assert_eq!(restarted.accounts[0].inherit_ms, 0, "it said that it types nothing more");
    let leaving = DesktopHello { leaving: true, ..hello(1, 12, 7_000, 8_000) };
    book.hear(&leaving, 8_000);
    assert!(book.hear(&hello(2, 20, 0, 8_001), 8_001).accounts[0].owned);
}

#[test]
fn a_process_in_the_same_seat_inherits_at_once() {
    let mut book = Book::default();
    let sitting = |seat: &str, of: DesktopHello| DesktopHello { seat: seat.to_owned(), ..of };
    book.hear(&sitting("file-1", hello(1, 10, 0, 1_000)), 1_000);
    let restarted = book.hear(&sitting("file-1", hello(1, 11, 2_000, 2_000)), 2_000);
    assert_eq!((restarted.accounts[0].token, restarted.accounts[0].inherit_ms), (2, 0), "the file's lock proves it");
    let copied = book.hear(&sitting("file-2", hello(1, 12, 3_000, 3_000)), 3_000);
    assert_eq!((copied.accounts[0].token, copied.accounts[0].inherit_ms), (3, 44_000));
    let again = book.hear(&sitting("file-2", hello(1, 13, 4_000, 4_000)), 4_000);
    assert_eq!(again.accounts[0].inherit_ms, 43_000, "the first file's process may still live");
}

#[test]
fn a_desk_that_says_no_hello_owns_by_its_turns_and_gets_no_token() {
    let now = from_millis(1_000);
    let who = |journal: u128| Claimant {
        desktop: DesktopId::try_from(format!("desk-{journal}")).unwrap(),
        journal: JournalId(id(journal)),
        instance: None,
        seat: String::new(),
    };
    let owner = claim(None, &who(1), now, HOLD);
    assert_eq!(permits(&owner, JournalId(id(1))), Some(None));
    let refused = claim(Some(&owner), &who(2), now, HOLD);
    assert_eq!((permits(&refused, JournalId(id(2))), refused.token), (None, 1));
    let renewed = claim(Some(&owner), &who(1), from_millis(40_000), HOLD);
    assert_eq!(claim(Some(&renewed), &who(2), from_millis(50_000), HOLD).journal, JournalId(id(1)));
    assert_eq!(permits(&claim(Some(&renewed), &who(2), from_millis(85_000), HOLD), JournalId(id(2))), Some(None));

    // The same desk with the new release; then its turns prolong nothing, and its replies carry the token.
    let mut book = Book { owner: Some(renewed), ..Book::default() };
    book.hear(&hello(1, 10, 0, 41_000), 41_000);
    let held = book.owner.clone().unwrap();
    assert_eq!((permits(&held, JournalId(id(1))), held.token), (Some(Some(1)), 1));
    assert_eq!(claim(Some(&held), &who(1), from_millis(80_000), HOLD), held);
}

#[test]
fn a_copied_journal_is_noticed_when_the_replaced_process_speaks_again() {
    let mut book = Book::default();
    let old = |at: i64| hello(1, 10, 0, at);
    let new = |at: i64| hello(1, 11, 20_000, at);
    book.hear(&old(1_000), 1_000);
    book.hear(&old(11_000), 11_000);
    assert!(!book.hear(&new(20_000), 20_000).cloned, "it may be a restart");
    assert!(!book.hear(&old(11_000), 20_100).cloned, "a hello that is delivered again is no sign of life");
    let back = book.hear(&old(21_000), 21_000);
    assert!(back.cloned && !back.current && !back.accounts[0].owned);
    assert_eq!(back.accounts[0].why, "a newer process works with a copy of this journal");
    let told = book.hear(&new(30_000), 30_000);
    assert!(told.cloned && told.current && told.accounts[0].owned, "both are told, the newest types");
    assert!(!book.hear(&new(111_000), 111_000).cloned, "the other one was stopped");
}

#[test]
fn a_clock_that_was_set_back_does_not_lock_a_desk_out_for_good() {
    let mut book = Book::default();
    book.hear(&hello(1, 10, 1_000_000, 1_000_000), 1_000);
    let early = book.hear(&hello(1, 11, 5, 10), 2_000);
    assert!(!early.current && !early.cloned, "by its clock it is older, and nothing speaks for two");
    let later = book.hear(&hello(1, 11, 5, 44_010), 46_001);
    assert!(later.current && later.accounts[0].owned);
}

/// A process of a desk, as the journal keeps what it was told.
#[derive(Default, Clone)]
struct Process {
    standing: Option<Standing>,
    replaced: bool,
    heard: i64,
}

impl Process {
    fn take(&mut self, greeted: &DesktopGreeted, now: i64) {
        let hello_at = crate::clock::to_millis(greeted.hello_at);
        if hello_at < self.heard {
            return;
        }
        (self.heard, self.replaced) = (hello_at, !greeted.current);
        let told = &greeted.accounts[0];
        self.standing = Some(Standing {
            owned: told.owned,
            owner: told.owner.to_string(),
            token: told.token,
            since: told.since,
            from: greeted.hello_at,
            hold: HOLD,
            inherits_at: from_millis(now + told.inherit_ms as i64),
        });
    }

    fn types(&self, token: u64, now: i64) -> bool {
        !self.replaced && decide(self.standing.as_ref(), Some(token), from_millis(now)) == Ownership::Mine
    }
}

proptest! {
    /// Four processes, two a journal, say hello at any times, with delays both ways. Whatever was issued under one
    /// number may be typed by at most one of them at any moment, and tokens never fall.
    #[test]
    fn at_most_one_process_types_what_was_issued_under_a_number(
        steps in proptest::collection::vec((0_usize..4, 0_i64..20_000, 0_i64..15_000, 0_i64..15_000), 1..60),
    ) {
        let (mut book, mut processes) = (Book::default(), vec![Process::default(); 4]);
        let (mut clock, mut token) = (0_i64, 0);
        let mut deliveries: Vec<(i64, usize, DesktopGreeted)> = Vec::new();
        let mut heard: Vec<(i64, usize, DesktopHello)> = Vec::new();
        for (who, pause, out, back) in steps {
            clock += pause;
            let (journal, started) = (who as u128 / 2 + 1, who as i64 % 2);
            heard.push((clock + out, who, hello(journal, 10 + who as u128, started, clock)));
            // What one process says arrives in its order.
            heard.sort_by_key(|(at, who, said)| (*at, *who, said.at));
            while let Some(place) = heard.iter().position(|(at, _, _)| *at <= clock) {
                let (at, who, said) = heard.remove(place);
                let greeted = book.hear(&said, at);
                let owner = book.owner.clone().unwrap();
                prop_assert!(owner.token >= token && owner.since <= owner.token);
                token = owner.token;
                deliveries.push((at + back, who, greeted));
            }
            deliveries.retain(|(at, who, greeted)| {
                let due = *at <= clock;
                if due {
                    processes[*who].take(greeted, clock);
                }
                !due
            });
            for number in 0..=token {
                let typing: Vec<_> = (0..4).filter(|who| processes[*who].types(number, clock)).collect();
                prop_assert!(typing.len() <= 1, "{:?} all type {} at {}", typing, number, clock);
            }
        }
    }
}
