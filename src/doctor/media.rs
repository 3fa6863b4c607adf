//! Verdicts on what makes the media: sound, codecs, the processor. Pure.

use std::time::Duration;

use super::{Finding, Level};
use crate::audio::AudioSpec;
use crate::config::RunConfig;
use crate::encoder::Codec;
use crate::frame::Size;

/// The canvas of a larger source, where none is configured.
pub const LARGEST_DEFAULT: Size = Size::new(1920, 1080);

/// What is known of sound.
#[derive(Debug, Clone)]
pub struct SoundFacts {
    /// What is configured.
    pub asked: AudioSpec,
    /// What would be heard, or why nothing is.
    pub found: Result<String, String>,
    /// The microphone that `mic` would be, where there is one.
    pub microphone: Option<String>,
    /// What is shown is a lesson, which may have sound of its own.
    pub with_lesson: bool,
}

/// Judges sound.
pub fn sound(facts: &SoundFacts) -> Finding {
    if facts.asked == AudioSpec::Off {
        return Finding::ok("sound", "off, as configured");
    }
    let others = facts.microphone.as_ref().filter(|mic| facts.found.as_ref() != Ok(mic));
    let others = others.map_or_else(String::new, |mic| format!("; there is {mic} too"));
    match &facts.found {
        _ if facts.with_lesson && matches!(facts.asked, AudioSpec::Auto | AudioSpec::File) => {
            let other = facts.found.as_ref().map_or("none", String::as_str);
            Finding::ok("sound", format!("the lesson's own, where it has some; else {other}{others}"))
        }
        Ok(found) => Finding::ok("sound", format!("{found}{others}")),
        Err(error) if facts.asked == AudioSpec::Auto => {
            let finding = Finding::of_error("sound", Level::Warn, error);
            Finding { found: format!("{}: there is no sound{others}", finding.found), ..finding }
        }
        Err(error) => Finding::of_error("sound", Level::Fail, error),
    }
}

/// The codecs of pictures, each with whether it is configured; those first.
pub fn codecs(config: &RunConfig) -> Vec<(Codec, bool)> {
    let asked = config.codecs.iter().map(|codec| (*codec, true));
    let others = [Codec::H264, Codec::Vp8].into_iter().filter(|codec| !config.codecs.contains(codec));
    asked.chain(others.map(|codec| (codec, false))).collect()
}

/// What encoding some pictures took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The keyframe's time.
    pub keyframe: Duration,
    /// The median of pictures with a small change.
    pub change: Duration,
}

/// What is known of a codec.
#[derive(Debug, Clone)]
pub struct CodecFacts {
    /// Which.
    pub codec: Codec,
    /// The pictures' extent.
    pub size: Size,
    /// Pictures a second.
    pub fps: u32,
    /// Whether it is configured.
    pub is_asked: bool,
    /// What came of it.
    pub result: Result<Encoding, String>,
}

/// Judges a codec.
pub fn codec(facts: &CodecFacts) -> Finding {
    let (codec, size, fps) = (facts.codec, facts.size, facts.fps);
    let encoding = match &facts.result {
        Ok(encoding) => encoding,
        Err(error) if facts.is_asked => {
            return Finding::new("codec", Level::Fail, format!("{codec}: {error}"), "leave it out of --codec");
        }
        Err(error) => return Finding::ok("codec", format!("{codec}: {error}; it is not configured")),
    };
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let told =
        format!("{codec} {size}: {} for a keyframe, {} for a small change", ms(encoding.keyframe), ms(encoding.change));
    let budget = Duration::from_secs(1) / fps.max(1);
    if encoding.change > budget {
        let found = format!("{told}, more than the {} that {fps} pictures a second leave", ms(budget));
        return Finding::new(
            "codec",
            Level::Warn,
            found,
            "choose a smaller --size or a lower --fps, or see what else this machine does at the moment",
        );
    }
    Finding::ok("codec", told)
}

/// What is known of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// Cores that this process may use.
    pub cores: usize,
    /// Whether it has instructions for AES.
    pub has_aes: bool,
}

/// Judges the processor.
pub fn processor(processor: &Processor) -> Finding {
    let Processor { cores, has_aes } = *processor;
    let told = format!(
        "{cores} {}, {} AES",
        if cores == 1 { "core" } else { "cores" },
        if has_aes { "with" } else { "without" }
    );
    if !has_aes {
        return Finding::new(
            "processor",
            Level::Warn,
            format!("{told}: sealing packets costs many times more, so there is room for fewer viewers"),
            "in a virtual machine, pass the host's processor through (AES-NI); else lower --bitrate or --max-viewers",
        );
    }
    if cores == 1 {
        let found = format!("{told}: pictures and everything else share it");
        return Finding::new(
            "processor",
            Level::Warn,
            found,
            "give the machine another core, or choose a smaller --size and --fps",
        );
    }
    Finding::ok("processor", told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sound_is_as_bad_as_it_is_wanted() {
        let facts = |asked, found: Result<&str, &str>| SoundFacts {
            asked,
            found: found.map(str::to_owned).map_err(str::to_owned),
            microphone: Some("mic (USB)".to_owned()),
            with_lesson: false,
        };
        let missing = Err("no sound server: none runs; start PulseAudio");
        assert_eq!(sound(&facts(AudioSpec::Off, missing)).level, Level::Ok);
        let auto = sound(&facts(AudioSpec::Auto, missing));
        assert!(auto.level == Level::Warn && auto.advice.as_deref() == Some("start PulseAudio"), "{auto:?}");
        assert_eq!(sound(&facts(AudioSpec::System, missing)).level, Level::Fail);
        assert_eq!(
            sound(&facts(AudioSpec::System, Ok("system (speakers)"))).found,
            "system (speakers); there is mic (USB) too"
        );
        let lesson = sound(&SoundFacts { with_lesson: true, ..facts(AudioSpec::Auto, missing) });
        assert!(lesson.level == Level::Ok && lesson.found.contains("the lesson's own"), "{lesson:?}");
        assert_eq!(sound(&facts(AudioSpec::Mic(None), Ok("mic (USB)"))).found, "mic (USB)");
    }

    #[test]
    fn a_codec_is_judged_by_the_time_between_pictures() {
        let facts = |change_ms, is_asked| CodecFacts {
            codec: Codec::Vp8,
            size: LARGEST_DEFAULT,
            fps: 30,
            is_asked,
            result: Ok(Encoding { keyframe: Duration::from_millis(60), change: Duration::from_millis(change_ms) }),
        };
        assert_eq!(codec(&facts(33, true)).level, Level::Ok);
        let slow = codec(&facts(34, true));
        assert!(slow.level == Level::Warn && slow.found.contains("33.3 ms"), "{slow:?}");
        let broken =
            |is_asked| codec(&CodecFacts { result: Err("none is built in".to_owned()), ..facts(1, is_asked) }).level;
        assert_eq!((broken(true), broken(false)), (Level::Fail, Level::Ok));
    }

    #[test]
    fn a_processor_without_aes_or_with_one_core_is_worth_a_word() {
        let level = |cores, has_aes| processor(&Processor { cores, has_aes }).level;
        assert_eq!((level(2, true), level(1, true), level(8, false)), (Level::Ok, Level::Warn, Level::Warn));
    }
}
