//! Numbers of payment cards.

use std::ops::Range;

/// The fewest and the most digits of a number that is one (ISO/IEC 7812-1; those of 12 and
/// 13 digits are given out no more, and look like barcodes).
const DIGITS_MIN: usize = 14;
const DIGITS_MAX: usize = 19;

/// What may stand between groups of digits, also twice: spaces, also those that keep a line
/// together, a hyphen, and what a space is in a form.
const BETWEEN: [&str; 5] = [" ", "-", "+", "\u{a0}", "\u{202f}"];

/// Where the numbers of cards stand in a text: 14 to 19 digits of a known scheme whose
/// check digit is right, as one or in groups.
pub(super) fn cards(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|to| at + to) {
        let groups = groups_from(text, start);
        at = groups.last().map_or(start + 1, |group| group.end);
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

/// The groups of digits from here on that nothing else stands between.
fn groups_from(text: &str, start: usize) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut groups = Vec::new();
    let mut at = start;
    loop {
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = at + digits;
        groups.push(at..end);
        let mut next = end;
        for _ in 0..2 {
            let between = BETWEEN.iter().find(|between| text[next..].starts_with(**between));
            next += between.map_or(0, |between| between.len());
        }
        match bytes.get(next) {
            Some(byte) if next > end && byte.is_ascii_digit() => at = next,
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
        if is_card(&digits) && stands_alone(bytes, &whole) && !is_in_uuid(bytes, &whole) {
            longest = Some((whole, i + 1));
        }
    }
    longest
}

/// Whether what is around makes it no part of a word, of a fraction or of a telephone number.
fn stands_alone(bytes: &[u8], card: &Range<usize>) -> bool {
    let before = |by: usize| card.start.checked_sub(by).map(|at| bytes[at]);
    let (after, behind) = (bytes.get(card.end), bytes.get(card.end + 1));
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let is_fraction = before(1) == Some(b'.') && is_digit(before(2).as_ref());
    let is_whole = after == Some(&b'.') && is_digit(behind);
    // An escape ends before it: `%20`, `\n`; or the sign of the first track of a card does.
    let is_escape = before(3) == Some(b'%')
        || (before(2) == Some(b'\\') && matches!(before(1), Some(b'n' | b'r' | b't')))
        || (before(2) == Some(b'%') && before(1) == Some(b'B'));
    let in_word = !is_escape && before(1).is_some_and(|byte| byte.is_ascii_alphanumeric());
    // `D` ends the number in the second track.
    let is_track = after == Some(&b'D') && is_digit(behind);
    let goes_on = !is_track && after.is_some_and(u8::is_ascii_alphanumeric);
    !(is_fraction || is_whole || in_word || goes_on)
}

/// Whether it is a part of a UUID (RFC 9562, section 4), whose groups may all be digits.
fn is_in_uuid(bytes: &[u8], card: &Range<usize>) -> bool {
    let is_uuid = |start: usize| {
        let Some(text) = bytes.get(start..start + 36) else { return false };
        text.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    [0, 9, 14, 19, 24].iter().any(|to| card.start.checked_sub(*to).is_some_and(is_uuid))
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
    sum.is_multiple_of(10)
}
