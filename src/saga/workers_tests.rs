use super::*;

#[test]
fn the_figures_of_another_release_can_be_read() {
    let newer = r#"{"turns": 3, "of_tomorrow": true}"#;
    let read: WorkerFigures = serde_json::from_str(newer).unwrap();
    assert_eq!(read, WorkerFigures { turns: 3, ..WorkerFigures::default() });
}
