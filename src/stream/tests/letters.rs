//! Dead letters: listed, sent on their way again, laid down.

use super::real::Real;
use super::*;

async fn the_way_of_a_letter(connection: &Connection) {
    let garbage =
        |n: usize| WireRecord { headers: vec![("ce_type".to_owned(), vec![0xfe])], ..record(topic::MESSAGES, "k", n) };
    let letters = Letters::new(connection, PATIENCE);
    assert_eq!(letters.list(true, 10).await.unwrap(), []);
    let mut running = Running::consume(connection.consumer(&group(connection, "g"), &[topic::MESSAGES]).unwrap());
    for n in 0..3 {
        connection.producer().publish(garbage(n)).await.unwrap();
        let received = take(&mut running.inbox, 1).await.remove(0);
        connection.producer().publish(bury(&received, "it is garbage", 1)).await.unwrap();
    }
    let listed = letters.list(false, 2).await.unwrap();
    assert_eq!(listed.len(), 2, "bounded");
    assert!(listed[0].at_ms >= listed[1].at_ms && listed[0].why == "it is garbage");
    assert!(listed[0].from.starts_with(topic::MESSAGES), "by its logical name: {}", listed[0].from);
    let (again, aside) = (listed[0].id, listed[1].id);

    assert_eq!(letters.replay(again, "me").await.unwrap(), topic::MESSAGES);
    let replayed = take(&mut running.inbox, 1).await.remove(0).record;
    let came = letters.find(again).await.unwrap();
    assert_eq!((replayed.payload, replayed.key), (came.0.record.payload, b"k".to_vec()));
    assert_eq!(replayed.headers.last().unwrap(), &("autoreply-replayed".to_owned(), b"1".to_vec()));
    assert_eq!(came.1, Some(Resolution::Replayed));
    letters.park(aside, "me").await.unwrap();
    assert_eq!(letters.list(false, 10).await.unwrap().len(), 1);
    let all = letters.list(true, 10).await.unwrap();
    assert_eq!(all.iter().filter_map(|letter| letter.resolved).count(), 2);
    for refused in [letters.replay(aside, "me").await.map(drop), letters.park(again, "me").await] {
        assert!(matches!(refused, Err(LetterError::Resolved(..))), "{refused:?}");
    }
    let unknown = LetterId { partition: 0, offset: 4_711 };
    assert_eq!(letters.park(unknown, "me").await, Err(LetterError::Unknown(unknown)));
    running.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_replayed_and_laid_down() {
    the_way_of_a_letter(&open()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_replayed_and_laid_down_on_a_real_broker() {
    let topics = [(topic::MESSAGES, 2), (topic::DEAD_LETTERS, 3)];
    let Some(real) = Real::with("the way of a dead letter", &topics).await else { return };
    the_way_of_a_letter(&real.connection).await;
    real.delete(&[topic::MESSAGES, topic::DEAD_LETTERS]).await;
}
