//! Numbers of payment cards.

use std::ops::Range;

/// The fewest and the most digits of a number that is one (ISO/IEC 7812-1; those of 12 and
/// 13 digits are given out no more, and look like barcodes).
const DIGITS_MIN: usize = 14;
const DIGITS_MAX: usize = 19;

/// Where the numbers of cards stand in a text: 14 to 19 digits of a known scheme whose
/// check digit is right, as one or in groups with a space or a hyphen between.
pub(super) fn cards(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|to| at + to) {
        let groups = groups_from(bytes, start);
        let end = groups.last().map_or(start + 1, |group| group.end);
        at = end;
        if groups.iter().map(ExactSizeIterator::len).sum::<usize>() < DIGITS_MIN {
            continue;
        }
        let mut first = 0;
        while first < groups.len() {
            match longest_card(bytes, &groups[first..]) {
                Some((card, taken)) => {
                    found.push(card);
                    first += taken;
                }
                None => first += 1,
            }
        }
    }
    found
}

/// The groups of digits from here on that one character stands between.
fn groups_from(bytes: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut at = start;
    loop {
        let end = bytes[at..]
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .map_or(bytes.len(), |to| at + to);
        groups.push(at..end);
        match (bytes.get(end), bytes.get(end + 1)) {
            (Some(b' ' | b'-' | b'+'), Some(next)) if next.is_ascii_digit() => at = end + 1,
            _ => return groups,
        }
    }
}

/// The longest card that begins with the first group, and of how many it is.
fn longest_card(bytes: &[u8], groups: &[Range<usize>]) -> Option<(Range<usize>, usize)> {
    let mut digits = Vec::with_capacity(DIGITS_MAX);
    let mut longest = None;
    for (i, group) in groups.iter().enumerate() {
        if digits.len() + group.len() > DIGITS_MAX {
            break;
        }
        digits.extend(bytes[group.clone()].iter().map(|byte| byte - b'0'));
        let whole = groups[0].start..group.end;
        if is_card(&digits) && stands_alone(bytes, &whole) {
            longest = Some((whole, i + 1));
        }
    }
    longest
}

/// Whether what is around makes it no part of a word, of a fraction or of a telephone number.
fn stands_alone(bytes: &[u8], card: &Range<usize>) -> bool {
    let before = card.start.checked_sub(1).map(|at| bytes[at]);
    let further = card.start.checked_sub(2).map(|at| bytes[at]);
    let (after, behind) = (bytes.get(card.end), bytes.get(card.end + 1));
    let is_fraction = before == Some(b'.') && further.is_some_and(|byte| byte.is_ascii_digit());
    let is_whole = after == Some(&b'.') && behind.is_some_and(u8::is_ascii_digit);
    // `%20` and `%2D` before it are a space and a hyphen.
    let is_escaped = card.start >= 3 && bytes[card.start - 3] == b'%';
    let in_word = !is_escaped && before.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let goes_on = after.is_some_and(u8::is_ascii_alphanumeric);
    !(is_fraction || is_whole || in_word || goes_on)
}

fn is_card(digits: &[u8]) -> bool {
    is_of_a_scheme(digits) && is_checked(digits)
}

/// Whether a scheme gives out numbers that begin so and are so long.
fn is_of_a_scheme(digits: &[u8]) -> bool {
    if digits.len() < DIGITS_MIN {
        return false;
    }
    let first =
        |count: usize| digits[..count].iter().fold(0, |all, &digit| all * 10 + u32::from(digit));
    let (two, three, four) = (first(2), first(3), first(4));
    match digits.len() {
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 if matches!(two, 51..=55) || matches!(four, 2221..=2720) => true,
        16 | 19 if digits[0] == 4 => true,
        // Discover, JCB, UnionPay, Maestro.
        _ => {
            four == 6011
                || matches!(two, 62 | 65)
                || matches!(three, 644..=649)
                || matches!(four, 3528..=3589)
                || matches!(four, 5018 | 5020 | 5038 | 6304 | 6759 | 6761..=6763)
        }
    }
}

/// Luhn's check (ISO/IEC 7812-1, annex B).
fn is_checked(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &digit)| match (i % 2, 2 * digit) {
            (0, _) => digit,
            (_, doubled @ 10..) => doubled - 9,
            (_, doubled) => doubled,
        })
        .map(u32::from)
        .sum();
    sum % 10 == 0
}
