use super::*;

#[test]
fn what_is_told_is_kept_until_all_is_up() {
    let mut told = Told::default();
    for line in ["down 38 50", "beat", "down 400 x 10", "nonsense"] {
        told.hear(line);
    }
    assert_eq!(told.codes(), [10, 38, 50]);
    told.hear("up");
    assert_eq!(told, Told::default());
}
