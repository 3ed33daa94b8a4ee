//! Videos and sounds: a player with its files, in a figure with caption and credit. It never starts on its own.

use super::{
    super::{DURATION, is_blank, playable},
    Html,
};
use crate::sanitise::file_address;
use cable_proto::v1::Media;

impl Html {
    /// Writes a `video` or an `audio`, or only its texts if it has no file that can be played.
    pub(super) fn player(&mut self, tag: &str, id: &str, media: &Media) {
        let has_file = playable(media).next().is_some();
        self.wrapped("figure", id, |html| {
            if has_file {
                html.open_player(tag, media);
                html.sources(media);
                html.close(tag);
            }
            html.wrapped("figcaption", "", |html| html.caption(media, has_file));
        });
    }

    fn open_player(&mut self, tag: &str, media: &Media) {
        self.out.push('<');
        self.out.push_str(tag);
        self.attribute("controls", "");
        if let (Some(poster), "video") = (file_address(&media.poster), tag) {
            self.attribute("poster", poster);
        }
        if !is_blank(&media.alt_text) {
            self.attribute("aria-label", &media.alt_text);
        }
        let sizes = playable(media).map(|(file, _)| (file.width, file.height));
        if let (Some((width, height)), "video") = (sizes.max(), tag) {
            for (name, value) in [("width", width), ("height", height)] {
                if value > 0 {
                    self.number(name, value);
                }
            }
        }
        if let Some(time) = seconds(media) {
            self.attribute(DURATION, &time);
        }
        self.out.push('>');
    }

    fn sources(&mut self, media: &Media) {
        for (file, address) in playable(media) {
            self.out.push_str("<source");
            self.attribute("src", address);
            if !is_blank(&file.r#type) {
                self.attribute("type", &file.r#type);
            }
            self.out.push('>');
        }
    }
}

/// Returns the playing time in seconds as text, if it is known and not negative.
fn seconds(media: &Media) -> Option<String> {
    let duration = media.duration.as_ref()?;
    let whole = u64::try_from(duration.seconds).ok()?;
    match u32::try_from(duration.nanos).ok()? {
        0 => Some(whole.to_string()),
        nanos => Some(format!("{whole}.{nanos:09}").trim_end_matches('0').to_owned()),
    }
}
