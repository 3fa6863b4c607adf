//! Lists of members: lines `name,id,flag`, as servers send them with a sign-in and as notifications.

use crate::id::PeerId;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name, in whatever encoding.
    pub name: &'a [u8],
    /// The id.
    pub id: PeerId,
    /// The third field: in a single change whether the member is there, in a full list whether it happens to wait just now.
    pub flag: bool,
}

/// Reads all lines; what is none is left out.
pub fn members(body: &[u8]) -> impl Iterator<Item = Member<'_>> {
    body.split(|byte| *byte == b'\n').filter_map(member)
}

/// Reads a line from the right, as names may have commas.
fn member(line: &[u8]) -> Option<Member<'_>> {
    let mut fields = line.rsplitn(3, |byte| *byte == b',');
    let (flag, field, name) = (fields.next()?, fields.next()?, fields.next()?);
    let flag = match flag.trim_ascii() {
        b"1" => true,
        b"0" => false,
        _ => return None,
    };
    Some(Member { name, id: id(field)?, flag })
}

/// Reads an id: digits only.
pub fn id(text: &[u8]) -> Option<PeerId> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok().map(PeerId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_from_the_right_and_others_left_out() {
        let body = b"desk,1,1\nSmith, Alice,22,0\n,3,1\r\n\xff\xfe,4,1\n\n\nno line\n5,1\nx,-6,1\nx,+6,1\nx,6,2\nx,,1\nx,99999999999999999999,1\nlast,7,1";
        let read: Vec<_> = members(body).map(|member| (member.name, member.id.0, member.flag)).collect();
        let expected: [(&[u8], u64, bool); 5] = [
            (b"desk", 1, true),
            (b"Smith, Alice", 22, false),
            (b"", 3, true),
            (b"\xff\xfe", 4, true),
            (b"last", 7, true),
        ];
        assert_eq!(read, expected);
        assert_eq!(members(b"").count(), 0);
    }
}
