//! The file: who holds it, a full disk, what goes when.

use super::*;

#[tokio::test]
async fn a_second_holder_is_locked_out_and_a_broken_file_is_told() {
    let desk = Desk::new(settings()).await;
    let path = desk.folder.path().join("j.db");
    assert!(matches!(Journal::open(&path, desktop(), settings()).await, Err(JournalError::Locked(_))));
    let broken = desk.folder.path().join("broken.db");
    std::fs::write(&broken, vec![b'x'; 8192]).unwrap();
    assert!(matches!(Journal::open(&broken, desktop(), settings()).await, Err(JournalError::Storage(_))));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_before_enter() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("one").await;
    // As many pages as it has now, and not one more.
    sqlx::query("pragma max_page_count = 1").execute(desk.journal.pool()).await.unwrap();
    let mut refused = false;
    for _ in 0..200 {
        desk.digest += 1;
        let look = LastLook {
            pane_digest: desk.digest,
            aligned: true,
            at_bottom: true,
            transcript: "x".repeat(4000),
            at: desk.at(),
        };
        let noise = vec![line(Cue::System, &"y".repeat(4000))];
        let done = desk.journal.record_look(&desk.conversation, noise, look, desk.at()).await;
        refused = matches!(done, Err(JournalError::Storage(_)));
        if refused {
            break;
        }
    }
    assert!(refused);
    // The journal is whole and goes on when there is room again.
    sqlx::query("pragma max_page_count = 1000000").execute(desk.journal.pool()).await.unwrap();
    desk.look(vec![]).await;
    assert!(passes(&desk.intent(&turn).await));
}

#[tokio::test]
async fn retention_takes_text_then_rows_and_forget_takes_a_peer() {
    let mut desk = Desk::new(settings()).await;
    let turn = desk.queued("a secret word").await;
    desk.send(&turn, "an answer to a secret word").await;
    let ack = OutcomeRecorded { turn: turn.turn, revision: turn.revision, desktop: desktop() };
    desk.journal.accept(Command::OutcomeRecorded(ack), desk.at()).await.unwrap();
    let day = Duration::from_secs(86_400);
    desk.wait(8 * 86_400_000);
    desk.journal.prune(desk.at(), day * 7, day * 30).await.unwrap();
    let has = |desk: &Desk, text: &str| {
        ["j.db", "j.db-wal"].iter().any(|name| {
            std::fs::read(desk.folder.path().join(name))
                .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        })
    };
    assert!(!has(&desk, "secret"));
    assert_eq!(desk.journal.sizes().await.unwrap().messages, 2);
    desk.wait(30 * 86_400_000);
    desk.journal.prune(desk.at(), day * 7, day * 30).await.unwrap();
    assert_eq!(desk.journal.sizes().await.unwrap().messages, 0);
    assert_eq!(desk.journal.turn_effect(turn.turn).await.unwrap(), None);

    desk.look(vec![]).await;
    desk.hear("another secret").await;
    assert_eq!(desk.journal.forget("bob", desk.at()).await.unwrap(), 1);
    assert!(!has(&desk, "secret") && !has(&desk, "bob"));
    assert!(desk.publish().await.is_empty() && desk.journal.conversations().await.unwrap().is_empty());
    desk.look(vec![]).await;
    desk.hear("again").await;
    assert_eq!(desk.publish().await[0].number, 3, "no number is given twice");
}
