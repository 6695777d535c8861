//! Bech32 (BIP 173), as far as age's keys need it: 32 bytes behind a human-readable part.

const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Characters of the checksum.
const CHECKSUM: usize = 6;

fn polymod(values: impl IntoIterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.into_iter().fold(1, |check, value| {
        let top = check >> 25;
        let next = ((check & 0x01ff_ffff) << 5) ^ u32::from(value);
        GENERATOR.iter().enumerate().fold(next, |next, (bit, generator)| {
            if top >> bit & 1 == 1 { next ^ generator } else { next }
        })
    })
}

/// What of the human-readable part the checksum is over.
fn expanded(prefix: &str) -> Vec<u8> {
    let bytes = prefix.as_bytes();
    let mut all: Vec<u8> = bytes.iter().map(|byte| byte >> 5).collect();
    all.push(0);
    all.extend(bytes.iter().map(|byte| byte & 31));
    all
}

/// Groups of so many bits as groups of as many others; none where what is left over is no padding.
fn regroup(values: &[u8], from: u32, to: u32, pad: bool) -> Option<Vec<u8>> {
    let (mut held, mut bits, mut out) = (0u32, 0, Vec::new());
    let mask = (1 << to) - 1;
    for &value in values {
        held = (held << from) | u32::from(value);
        bits += from;
        while bits >= to {
            bits -= to;
            out.push(u8::try_from((held >> bits) & mask).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    match pad {
        true if bits > 0 => out.push(u8::try_from((held << (to - bits)) & mask).ok()?),
        true => {}
        false if bits >= from || held != 0 => return None,
        false => {}
    }
    Some(out)
}

/// 32 bytes as text, in lower case.
#[cfg(test)]
pub(super) fn encode(prefix: &str, key: &[u8; 32]) -> String {
    let data = regroup(key, 8, 5, true).unwrap_or_default();
    let all = expanded(prefix).into_iter().chain(data.iter().copied()).chain([0; CHECKSUM]);
    let check = polymod(all) ^ 1;
    let checksum = (0..CHECKSUM).rev().map(|at| (check >> (5 * at) & 31) as usize);
    let letters = data.iter().map(|&value| usize::from(value)).chain(checksum);
    let letters: String = letters.map(|value| char::from(CHARSET[value])).collect();
    format!("{prefix}1{letters}")
}

/// The 32 bytes of a text behind this human-readable part, all of it in one case.
pub(super) fn decode(prefix: &str, text: &str) -> Option<[u8; 32]> {
    let lower = text.to_ascii_lowercase();
    if text != lower && text != text.to_ascii_uppercase() {
        return None;
    }
    let letters = lower.strip_prefix(prefix)?.strip_prefix('1')?;
    let values: Vec<u8> = letters
        .bytes()
        .map(|byte| CHARSET.iter().position(|&letter| letter == byte))
        .map(|at| at.and_then(|at| u8::try_from(at).ok()))
        .collect::<Option<_>>()?;
    if polymod(expanded(prefix).into_iter().chain(values.iter().copied())) != 1 {
        return None;
    }
    let data = &values[..values.len().checked_sub(CHECKSUM)?];
    regroup(data, 5, 8, false)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_of_the_stock_tool_is_read() {
        // Of age's own documentation.
        let text = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let key = decode("age", text).unwrap();
        assert_eq!(encode("age", &key), text);
        assert_eq!(decode("age", &text.to_uppercase()), Some(key));
        assert_eq!(decode("age", &text.replacen('q', "Q", 1)), None, "mixed case");
        assert_eq!(decode("age-secret-key-", text), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_one_other_letter_is_not(key: [u8; 32], at in 4_usize..58) {
            let text = encode("age", &key);
            prop_assert_eq!(decode("age", &text), Some(key));
            let mut other = text.into_bytes();
            other[at] = if other[at] == b'q' { b'p' } else { b'q' };
            prop_assert_eq!(decode("age", std::str::from_utf8(&other).unwrap()), None);
        }
    }
}
