//! Where a view lies on what is known: a semi-global alignment with free ends. Pure.
//!
//! This is the overlap alignment of sequence assembly (suffix against prefix, dynamic programming; Needleman and
//! Wunsch, J. Mol. Biol. 48, 1970, with the free end gaps of Sellers, J. Algorithms 1, 1980; see Gusfield, "Algorithms
//! on Strings, Trees and Sequences", 1997, section 11.6.4), with lines in the place of letters.

use super::likeness::{Folds, Reading, pair_score};
use super::transcript::Known;

/// The cost of a line that one side has and the other has not.
const GAP: i32 = -3;
/// The cost of a view that begins above the first known line: such a reading is taken only where no other is as good.
const ABOVE: i32 = -1;

/// What became of a line of the view above the end of the overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The known line and the view's line are the same; with their score.
    Pair(usize, usize, i32),
    /// The known line is not in the view.
    Missing(usize),
    /// The view's line was not known; it stands above known ones. The first value is the known line that follows.
    Extra(usize, usize),
}

/// The best overlap of a view with a run of known lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlap {
    /// Sum of the scores.
    pub(super) score: i32,
    /// From the top down.
    pub(super) steps: Vec<Step>,
    /// Lines at the top of the view that stand above the first known line.
    pub(super) above: usize,
    /// Known lines below the view's end: the pane is scrolled up.
    pub(super) below: usize,
    /// Lines at the end of the view that stand below the last known line.
    pub(super) fresh: usize,
}

impl Overlap {
    /// Pairs that are the same line.
    pub(super) fn matches(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Pair(_, _, score) if *score > 0)).count()
    }
}

/// The best overlap; among equally good ones that with the fewest fresh lines, then the one nearest to the end.
pub(super) fn overlap(known: &[Known], folds: &[Folds], view: &[Reading<'_>]) -> Overlap {
    let (n, m) = (known.len(), view.len());
    let width = m + 1;
    let pairs: Vec<i32> = known
        .iter()
        .zip(folds)
        .flat_map(|(line, folds)| view.iter().map(move |reading| pair_score(line, folds, reading)))
        .collect();
    let mut best = vec![0_i32; (n + 1) * width];
    for cell in best.iter_mut().take(width).skip(1) {
        *cell = ABOVE;
    }
    for i in 1..=n {
        for j in 1..=m {
            let (diagonal, missing, extra) = candidates(&best, &pairs, known, width, i, j);
            best[i * width + j] = diagonal.max(missing).max(extra);
        }
    }
    let end = ends(n, m).max_by_key(|&(i, j)| (best[i * width + j], std::cmp::Reverse(m - j), i)).unwrap_or((n, 0));
    trace(&best, &pairs, known, width, end, m)
}

/// Where an overlap may end: at the last known line, or at the last line of the view.
fn ends(n: usize, m: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..=m).map(move |j| (n, j)).chain((0..n).map(move |i| (i, m)))
}

fn candidates(best: &[i32], pairs: &[i32], known: &[Known], width: usize, i: usize, j: usize) -> (i32, i32, i32) {
    let pair = pairs[(i - 1) * (width - 1) + j - 1];
    let missing = if known[i - 1].missing { 0 } else { GAP };
    (best[(i - 1) * width + j - 1] + pair, best[(i - 1) * width + j] + missing, best[i * width + j - 1] + GAP)
}

fn trace(best: &[i32], pairs: &[i32], known: &[Known], width: usize, end: (usize, usize), m: usize) -> Overlap {
    let (mut i, mut j) = end;
    let mut steps = Vec::new();
    while i > 0 && j > 0 {
        let here = best[i * width + j];
        let (diagonal, missing, _) = candidates(best, pairs, known, width, i, j);
        if here == diagonal {
            steps.push(Step::Pair(i - 1, j - 1, pairs[(i - 1) * (width - 1) + j - 1]));
            (i, j) = (i - 1, j - 1);
        } else if here == missing {
            steps.push(Step::Missing(i - 1));
            i -= 1;
        } else {
            steps.push(Step::Extra(i, j - 1));
            j -= 1;
        }
    }
    steps.reverse();
    Overlap { score: best[end.0 * width + end.1], steps, above: j, below: known.len() - end.0, fresh: m - end.1 }
}
