//! What is negotiated with PipeWire: formats, buffers, and what comes beside the pixels (SPA pods; `spa/param/video/format.h`,
//! `spa/param/buffers.h`).

use pipewire::spa;
use spa::param::ParamType;
use spa::param::format::{FormatProperties, MediaSubtype, MediaType};
use spa::param::video::{VideoFormat, VideoInfoRaw};
use spa::pod::serialize::PodSerializer;
use spa::pod::{ChoiceValue, Object, Pod, Property, Value, object, property};
use spa::utils::{Choice, ChoiceEnum, ChoiceFlags, Fraction, Id, Rectangle, SpaTypes};

use super::news::{BITMAP_BYTES, CURSOR_BYTES, REGION_BYTES};
use super::pixels::Order;
use crate::frame::Size;

/// The largest picture that is taken, either way.
const LARGEST: u32 = 16_384;
/// The largest image of a pointer, either way.
const LARGEST_POINTER: i32 = 384;
/// How many damaged rectangles a buffer may tell of.
const MOST_RECTS: i32 = 16;

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// The extent of a buffer's picture.
    pub(super) size: Size,
    /// The order of a pixel's bytes.
    pub(super) order: Order,
}

/// A pod in memory.
pub(super) struct Param(Vec<u8>);

impl Param {
    /// The pod; `None` where it was not made well, which is our fault.
    pub(super) fn pod(&self) -> Option<&Pod> {
        Pod::from_bytes(&self.0)
    }
}

fn param(object: Object) -> Param {
    let bytes = PodSerializer::serialize(std::io::Cursor::new(Vec::new()), &Value::Object(object));
    Param(bytes.map(|(cursor, _)| cursor.into_inner()).unwrap_or_default())
}

/// The formats that are taken: four bytes a pixel in shared memory, of any size, at most `fps` a second.
pub(super) fn formats(fps: u32) -> Param {
    let per_second = |num| Fraction { num, denom: 1 };
    let square = |side| Rectangle { width: side, height: side };
    param(object!(
        SpaTypes::ObjectParamFormat,
        ParamType::EnumFormat,
        property!(FormatProperties::MediaType, Id, MediaType::Video),
        property!(FormatProperties::MediaSubtype, Id, MediaSubtype::Raw),
        property!(
            FormatProperties::VideoFormat,
            Choice,
            Enum,
            Id,
            VideoFormat::BGRx,
            VideoFormat::BGRx,
            VideoFormat::BGRA,
            VideoFormat::RGBx,
            VideoFormat::RGBA,
        ),
        property!(
            FormatProperties::VideoSize,
            Choice,
            Range,
            Rectangle,
            Rectangle { width: 1920, height: 1080 },
            square(1),
            square(LARGEST)
        ),
        // Pictures come when something changes, at no rate of their own.
        property!(
            FormatProperties::VideoFramerate,
            Choice,
            Range,
            Fraction,
            per_second(0),
            per_second(0),
            per_second(1000)
        ),
        property!(
            FormatProperties::VideoMaxFramerate,
            Choice,
            Range,
            Fraction,
            per_second(fps.max(1)),
            per_second(1),
            per_second(fps.max(1))
        ),
    ))
}

/// The buffers that are taken: a few, in memory that can be read.
pub(super) fn buffers() -> Param {
    let readable = (1 << spa::sys::SPA_DATA_MemPtr) | (1 << spa::sys::SPA_DATA_MemFd);
    param(Object {
        type_: SpaTypes::ObjectParamBuffers.as_raw(),
        id: ParamType::Buffers.as_raw(),
        properties: vec![
            Property::new(spa::sys::SPA_PARAM_BUFFERS_buffers, range(4, 2, 8)),
            Property::new(spa::sys::SPA_PARAM_BUFFERS_blocks, Value::Int(1)),
            Property::new(
                spa::sys::SPA_PARAM_BUFFERS_dataType,
                choice(ChoiceEnum::Flags { default: readable, flags: Vec::new() }),
            ),
        ],
    })
}

/// What is to come beside the pixels.
pub(super) fn metas(with_pointer: bool) -> Vec<Param> {
    let region = REGION_BYTES as i32;
    let pointer = |side: i32| CURSOR_BYTES as i32 + BITMAP_BYTES as i32 + side * side * 4;
    let mut metas = vec![
        meta(spa::sys::SPA_META_Header, Value::Int(size_of::<spa::sys::spa_meta_header>() as i32)),
        meta(spa::sys::SPA_META_VideoCrop, Value::Int(region)),
        meta(spa::sys::SPA_META_VideoDamage, range(region * MOST_RECTS, region, region * MOST_RECTS)),
    ];
    if with_pointer {
        metas.push(meta(spa::sys::SPA_META_Cursor, range(pointer(64), pointer(1), pointer(LARGEST_POINTER))));
    }
    metas
}

fn meta(kind: u32, size: Value) -> Param {
    param(Object {
        type_: SpaTypes::ObjectParamMeta.as_raw(),
        id: ParamType::Meta.as_raw(),
        properties: vec![
            Property::new(spa::sys::SPA_PARAM_META_type, Value::Id(Id(kind))),
            Property::new(spa::sys::SPA_PARAM_META_size, size),
        ],
    })
}

fn range(default: i32, min: i32, max: i32) -> Value {
    choice(ChoiceEnum::Range { default, min, max })
}

fn choice(choice: ChoiceEnum<i32>) -> Value {
    Value::Choice(ChoiceValue::Int(Choice(ChoiceFlags::empty(), choice)))
}

/// Reads what was agreed on; says what it is where it is nothing that was offered.
pub(super) fn parse(pod: &Pod) -> Result<Format, String> {
    let mut info = VideoInfoRaw::default();
    info.parse(pod).map_err(|error| format!("a format that can't be read: {error}"))?;
    let format = info.format();
    let order = match format {
        VideoFormat::BGRx | VideoFormat::BGRA => Order::Bgr,
        VideoFormat::RGBx | VideoFormat::RGBA => Order::Rgb,
        _ => return Err(format!("the format {format:?}")),
    };
    let size = Size::new(info.size().width, info.size().height);
    if !(1..=LARGEST).contains(&size.width) || !(1..=LARGEST).contains(&size.height) {
        return Err(format!("pictures of {size}"));
    }
    Ok(Format { size, order })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn agreed(format: VideoFormat, width: u32, height: u32) -> Param {
        param(object!(
            SpaTypes::ObjectParamFormat,
            ParamType::Format,
            property!(FormatProperties::MediaType, Id, MediaType::Video),
            property!(FormatProperties::MediaSubtype, Id, MediaSubtype::Raw),
            property!(FormatProperties::VideoFormat, Id, format),
            property!(FormatProperties::VideoSize, Rectangle, Rectangle { width, height }),
            property!(FormatProperties::VideoFramerate, Fraction, Fraction { num: 0, denom: 1 }),
        ))
    }

    #[test]
    fn what_was_offered_is_understood_and_nothing_else() {
        let read = |format, width, height| parse(agreed(format, width, height).pod().unwrap());
        let size = Size::new(641, 359);
        assert_eq!(read(VideoFormat::BGRx, 641, 359), Ok(Format { size, order: Order::Bgr }));
        assert_eq!(read(VideoFormat::RGBA, 641, 359), Ok(Format { size, order: Order::Rgb }));
        assert!(read(VideoFormat::NV12, 641, 359).is_err());
        assert!(read(VideoFormat::BGRx, 0, 359).is_err());
        assert!(read(VideoFormat::BGRx, 20_000, 359).is_err());
    }

    #[test]
    fn all_pods_are_whole() {
        let pods = [formats(30), formats(0), buffers()].into_iter().chain(metas(true));
        for (at, param) in pods.enumerate() {
            assert!(param.pod().is_some(), "{at}");
        }
        assert_eq!((metas(true).len(), metas(false).len()), (4, 3));
    }
}
