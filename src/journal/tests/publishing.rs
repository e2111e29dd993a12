//! What goes to Kafka, when, and how often.

use super::*;

#[tokio::test]
async fn a_turn_whose_window_never_comes_back_ends_with_a_reason() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("are you there?").await;
    desk.restart().await;
    desk.wait(599_000);
    assert!(desk.due().await.is_empty(), "the window may still come back");
    desk.wait(2_000);
    let ended = desk.publish().await.pop().unwrap();
    assert_eq!((ended.mode, desk.effect(&ended).await), (Mode::Off, Some(Effect::Expired)));
    assert!(desk.publish().await.is_empty(), "once");
    // If the window does come back, and somebody writes, what nobody has answered is part of it.
    desk.hear("hello again").await;
    let next = desk.publish().await.pop().unwrap();
    let texts: Vec<_> = next.messages.iter().map(|message| message.text.as_str()).collect();
    assert_eq!((next.number, texts), (2, vec!["are you there?", "hello again"]));
}

#[tokio::test]
async fn a_long_turn_carries_every_message_and_a_record_of_it_always_fits_its_topic() {
    let mut desk = Desk::new(settings()).await;
    desk.look((0..300).map(|n| line(Cue::Other, &format!("line {n}"))).collect()).await;
    let turn = desk.publish().await.pop().unwrap();
    assert_eq!(turn.messages.len(), 300);
    assert_eq!(turn.messages[0].text, "line 0");

    // The worst that JSON makes of a text is six bytes of one.
    let mut desk = Desk::new(settings()).await;
    let long = |n: usize| line(Cue::Other, &format!("{}{n}", "\u{1}".repeat(9_000)));
    desk.look((0..40).map(long).collect()).await;
    let mut turn = desk.publish().await.pop().unwrap();
    assert!(turn.messages.len() < 40 && turn.messages.last().unwrap().text.ends_with("39"));
    assert!(turn.messages.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq), "the newest, without gaps");
    assert!(!turn.context.is_empty());
    let of_the_topic = 1_000_000;
    assert!(serde_json::to_vec(&turn).unwrap().len() < of_the_topic);
    let short = turn.messages[0].clone();
    turn.messages = vec![crate::contract::TurnMessage { text: "\u{1}".repeat(192), ..short }; 500];
    assert!(serde_json::to_vec(&turn).unwrap().len() < of_the_topic, "many short ones and their frames");
}

#[tokio::test]
async fn off_keeps_and_publishes_nothing() {
    let mut desk = Desk::new(TurnSettings { mode: Mode::Off, ..settings() }).await;
    desk.hear("secret").await;
    assert!(desk.publish().await.is_empty() && desk.outcomes().await.is_empty());
    assert_eq!(desk.journal.sizes().await.unwrap().messages, 0);
    assert_eq!(desk.journal.last_look(desk.conversation.id).await.unwrap(), None);

    let mut desk = Desk::new(settings()).await;
    let known = desk.queued("one").await;
    desk.control(Scope::All, Control::Mode(Mode::Off), 1).await;
    assert_eq!(desk.outcomes().await, [(known.turn, 1, Effect::Off)]);
    desk.control(Scope::All, Control::Unset, 2).await;
    desk.look(vec![]).await;
    desk.hear("not published yet").await;
    let open = desk.journal.conversations().await.unwrap()[0].open_turns[0].turn;
    desk.journal.set_conversation_mode(desk.conversation.id, Some(Mode::Off), desk.at()).await.unwrap();
    assert!(desk.publish().await.is_empty());
    assert_eq!(desk.outcomes().await.len(), 1, "what was never published stays here");
    assert_eq!(desk.journal.turn_effect(open).await.unwrap().unwrap().1, Some(Effect::Off));
}

#[tokio::test]
async fn what_is_not_acknowledged_is_published_again() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    desk.wait(2000);
    let turn = desk.due().await.pop().unwrap();
    desk.journal.turn_published(turn.turn, turn.revision, desk.at()).await.unwrap();
    assert!(desk.due().await.is_empty());
    desk.wait(10_000);
    assert_eq!(desk.due().await, std::slice::from_ref(&turn));
    desk.journal.turn_published(turn.turn, turn.revision, desk.at()).await.unwrap();
    desk.journal.publish_again().await.unwrap();
    assert_eq!(desk.due().await, [turn]);
}

#[tokio::test]
async fn a_turn_that_waits_long_is_asked_after_ever_more_seldom_until_its_reply_is_here() {
    let mut desk = Desk::new(settings()).await;
    desk.hear("one").await;
    let turn = desk.publish().await.pop().unwrap();
    let mut asked = Vec::new();
    for second in 1..=590 {
        desk.wait(1000);
        for due in desk.due().await {
            assert_eq!((due.turn, due.revision), (turn.turn, turn.revision));
            desk.journal.turn_published(due.turn, due.revision, desk.at()).await.unwrap();
            asked.push(second);
        }
    }
    assert_eq!(asked, [60, 122, 246, 494]);
    desk.accept(desk.reply(&turn, "hello there bob")).await;
    desk.wait(600_000);
    assert!(desk.due().await.is_empty());
}

#[tokio::test]
async fn an_outcome_that_is_bettered_on_its_way_is_published_all_the_same() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    desk.intent(&turn).await;
    desk.submit(&turn).await;
    desk.end(&turn, Effect::Failed).await;
    let on_its_way = desk.journal.outcomes_to_publish(desk.at()).await.unwrap().remove(0);
    assert_eq!(on_its_way.effect, Effect::Unverifiable);
    desk.own("whatever it reads like").await;
    desk.journal.outcome_published(&on_its_way, desk.at()).await.unwrap();
    assert_eq!(desk.outcomes().await, [(turn.turn, 1, Effect::Confirmed)], "this one never went");
    desk.publish_outcome(&turn).await;
    let ack =
        || Command::OutcomeRecorded(OutcomeRecorded { turn: turn.turn, revision: turn.revision, desktop: desktop() });
    assert_eq!(desk.journal.accept(ack(), desk.at()).await.unwrap(), Accepted::Noted, "that was of the first");
    assert_eq!(desk.journal.accept(ack(), desk.at()).await.unwrap(), Accepted::OutcomeAcknowledged);
    desk.wait(60_000);
    assert!(desk.outcomes().await.is_empty());
}
