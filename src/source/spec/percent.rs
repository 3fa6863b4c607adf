//! Percent-encoding of titles and paths (RFC 3986, section 2.1).

/// Undoes percent-encoding; what is wrong where it is none, or no text.
pub(super) fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        if *byte != b'%' {
            bytes.push(*byte);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(value) = value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err("a % without two hexadecimal digits behind it".to_owned());
        };
        bytes.push(value);
        rest = &after[2..];
    }
    let decoded = String::from_utf8(bytes).map_err(|_| "no UTF-8 behind its %".to_owned())?;
    if decoded.contains('\0') { Err("a zero byte".to_owned()) } else { Ok(decoded) }
}

/// Encodes what would mean something else in a spec, and what would break a line.
pub(super) fn encode(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut encoded, c| {
        if matches!(c, '%' | '?' | '&' | '+') || !crate::config::is_shown(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        } else {
            encoded.push(c);
        }
        encoded
    })
}
