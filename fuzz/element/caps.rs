//! Caps negotiation: what each pad offers for caps of the other one, and the frames that
//! come out of small ones.

use super::{Line, element, pad, take_errors, template};
use gst::glib;
use gst::prelude::*;
use gst_video::VideoInfo;

const SCALES: [(i32, i32); 16] = [
    (2, 1),
    (0, 1),
    (1, 1),
    (3, 2),
    (4, 3),
    (3, 1),
    (4, 1),
    (1, 2),
    (2, 3),
    (16, 1),
    (7, 5),
    (1, 16),
    (999, 1000),
    (1001, 1000),
    (1, i32::MAX),
    (i32::MAX, i32::MAX - 1),
];
const FORMATS: [&str; 24] = [
    "I420",
    "GRAY8",
    "RGB",
    "NV12",
    "YV12",
    "BGRx",
    "RGBA",
    "AYUV",
    "Y42B",
    "Y444",
    "Y41B",
    "UYVY",
    "NV16",
    "v210",
    "I420_10LE",
    "P010_10LE",
    "I422_12BE",
    "GRAY16_LE",
    "GBR",
    "NV12_64Z32",
    "ENCODED",
    "DMA_DRM",
    "nonesuch",
    "",
];
const SIDES: [i32; 24] = [
    16, 12, 1, 2, 3, 5, 7, 8, 9, 15, 17, 24, 31, 33, 48, 64, 640, 1080, 16384, 32767, 32768, 32769,
    0, -1,
];
const RATES: [(i32, i32); 6] = [
    (25, 1),
    (0, 1),
    (30000, 1001),
    (1, 1),
    (i32::MAX, 1),
    (-1, 2),
];
const RATIOS: [(i32, i32); 10] = [
    (1, 1),
    (16, 15),
    (2, 1),
    (1, 2),
    (64, 45),
    (0, 1),
    (i32::MAX, 1),
    (1, i32::MAX),
    (-1, 1),
    (100, 101),
];
const MODES: [&str; 7] = [
    "progressive",
    "interleaved",
    "mixed",
    "fields",
    "alternate",
    "nonesuch",
    "",
];
const COLORS: [&str; 20] = [
    "bt601",
    "bt709",
    "bt2020",
    "bt2020-10",
    "bt2100-pq",
    "smpte240m",
    "sRGB",
    "1:0:0:0",
    "2:0:0:0",
    "2:0:5:1",
    "1:0:255:255",
    "2:3:5:1",
    "1:4:0:1",
    "0:3:5:1",
    "2:3:0:0",
    "1:1:1:1",
    "2:6:18:11",
    "3:99:99:99",
    "4294967295:0:0:0",
    "nonesuch",
];
const SITES: [&str; 9] = [
    "mpeg2",
    "jpeg",
    "none",
    "dv",
    "cosited",
    "v-cosited",
    "alt-line",
    "v-cosited+h-cosited",
    "nonesuch",
];
const FEATURES: [&[&str]; 7] = [
    &[],
    &["memory:SystemMemory"],
    &["memory:CUDAMemory"],
    &["memory:DMABuf"],
    &["meta:GstVideoOverlayComposition"],
    &["memory:SystemMemory", "meta:GstVideoOverlayComposition"],
    &["format:Interlaced"],
];

/// Reads choices from bytes, zeros after their end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first.into()
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() % choices.len()]
    }

    /// The value of a field of text, if it is there.
    fn text(&mut self, choices: &[&str]) -> Option<glib::SendValue> {
        let one = |this: &mut Self| this.pick(choices).to_send_value();
        self.field(one, |_| None)
    }

    /// A width or a height.
    fn side(&mut self) -> Option<glib::SendValue> {
        self.field(
            |this| this.pick(&SIDES).to_send_value(),
            |this| {
                let (a, b) = (this.pick(&SIDES), this.pick(&SIDES));
                let (low, high) = (a.min(b), a.max(b));
                let step = 1 << (this.next() % 3);
                let stepped = low % step == 0 && high % step == 0;
                (low >= 0 && low < high).then(|| match stepped {
                    true => gst::IntRange::with_step(low, high, step).to_send_value(),
                    false => gst::IntRange::new(low, high).to_send_value(),
                })
            },
        )
    }

    fn fraction(&mut self, choices: &[(i32, i32)]) -> Option<glib::SendValue> {
        let one = |this: &mut Self| gst::Fraction::from(this.pick(choices));
        self.field(
            |this| one(this).to_send_value(),
            |this| {
                let (a, b) = (one(this), one(this));
                let range = || gst::FractionRange::new(a.min(b), a.max(b));
                (a != b).then(|| range().to_send_value())
            },
        )
    }

    /// Nothing, a value, a range, a list of values, or a value of a type that the field
    /// does not have. No list has ranges: GStreamer 1.22 compares them as if they were
    /// values, with critical messages.
    fn field(
        &mut self,
        one: impl Fn(&mut Self) -> glib::SendValue,
        range: impl Fn(&mut Self) -> Option<glib::SendValue>,
    ) -> Option<glib::SendValue> {
        match self.next() % 16 {
            0..3 => None,
            3..9 => Some(one(self)),
            9..12 => range(self),
            12..15 => {
                let count = 1 + self.next() % 3;
                let items = (0..count).map(|_| one(self));
                Some(gst::List::from_values(items.collect::<Vec<_>>()).to_send_value())
            }
            _ => Some(match self.next() % 3 {
                0 => 7i32.to_send_value(),
                1 => "16".to_send_value(),
                _ => gst::Fraction::new(16, 1).to_send_value(),
            }),
        }
    }

    fn structure(&mut self) -> gst::Structure {
        let mut s = gst::Structure::new_empty(match self.next() % 16 {
            15 => "video/x-bayer",
            _ => "video/x-raw",
        });
        let fields = [
            ("format", self.text(&FORMATS)),
            ("width", self.side()),
            ("height", self.side()),
            ("framerate", self.fraction(&RATES)),
            ("pixel-aspect-ratio", self.fraction(&RATIOS)),
            ("interlace-mode", self.text(&MODES)),
            ("colorimetry", self.text(&COLORS)),
            ("chroma-site", self.text(&SITES)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                s.set_value(name, value);
            }
        }
        s
    }

    fn caps(&mut self) -> gst::Caps {
        let count = match self.next() % 16 {
            14 => return gst::Caps::new_any(),
            15 => return gst::Caps::new_empty(),
            n => 1 + n / 8 + n / 12,
        };
        let mut caps = gst::Caps::new_empty();
        for _ in 0..count {
            let features = match self.next() % 16 {
                15 => gst::CapsFeatures::new_any(),
                n => gst::CapsFeatures::new(FEATURES[n % FEATURES.len()].iter().copied()),
            };
            let structure = self.structure();
            let caps = caps.get_mut().expect("nobody else has the caps");
            caps.append_structure_full(structure, Some(features));
        }
        caps
    }
}

/// Settings, caps of both sides and a filter, as the bytes choose them.
pub(crate) fn target(bytes: &[u8]) {
    let choices = &mut Choices(bytes);
    let (element, bus) = element();
    let scale = gst::Fraction::from(choices.pick(&SCALES));
    let switches = choices.next();
    element.set_property("scale", scale);
    element.set_property_from_str("even-size", ["auto", "on", "off"][switches % 3]);
    element.set_property("add-borders", switches & 4 == 0);
    if switches & 8 != 0 {
        element.set_property(
            "max-pixels",
            choices.pick(&[1u64, 192, 768, 3072, u64::MAX]),
        );
    }
    element.set_property(
        "model",
        ["bicubic", "espcn"][usize::from(switches & 16 != 0)],
    );
    if switches & 32 != 0 {
        element
            .set_state(gst::State::Ready)
            .expect("READY is reached");
    }
    let (upstream, downstream, filter) = (choices.caps(), choices.caps(), choices.caps());
    for filter in [None, Some(&filter)] {
        offers(&element, &upstream, gst::PadDirection::Sink, filter);
        offers(&element, &downstream, gst::PadDirection::Src, filter);
    }
    stream(&element, &bus, [&upstream, &filter], &downstream);
    element
        .set_state(gst::State::Null)
        .expect("NULL is reached");
    take_errors(&bus);
}

/// What the pad opposite of `direction` offers if the peer of the other one has `caps`.
fn offer(
    element: &gst::Element,
    caps: &gst::Caps,
    direction: gst::PadDirection,
    filter: Option<&gst::Caps>,
) -> gst::Caps {
    let (sink, src) = (pad(element, "sink"), pad(element, "src"));
    if direction == gst::PadDirection::Sink {
        let peer = gst::Pad::from_template(&template(gst::PadDirection::Src, caps));
        super::link(&peer, &sink);
        let offer = src.query_caps(filter);
        peer.unlink(&sink).expect("the pads are linked");
        offer
    } else {
        let peer = gst::Pad::from_template(&template(gst::PadDirection::Sink, caps));
        super::link(&src, &peer);
        let offer = sink.query_caps(filter);
        src.unlink(&peer).expect("the pads are linked");
        offer
    }
}

/// Checks what the element offers for caps on the side of `direction`.
fn offers(
    element: &gst::Element,
    caps: &gst::Caps,
    direction: gst::PadDirection,
    filter: Option<&gst::Caps>,
) {
    let other = match direction {
        gst::PadDirection::Sink => pad(element, "src"),
        _ => pad(element, "sink"),
    };
    let offered = offer(element, caps, direction, filter);
    let situation = || format!("{direction:?} {caps}, filter {filter:?}: {offered}");
    assert!(
        offered.is_subset(&other.pad_template_caps()),
        "{}",
        situation()
    );
    if let Some(filter) = filter {
        assert!(offered.is_subset(filter), "{}", situation());
    }
    // What is offered upstream leads to what downstream takes.
    if direction == gst::PadDirection::Src && !offered.is_empty() {
        let back = offer(element, &offered, gst::PadDirection::Sink, None);
        // A ratio that is none, such as 0/1, has been replaced, and a colorimetry of which
        // only the range is known has been completed.
        let mut caps = caps.clone();
        for s in caps.make_mut().iter_mut() {
            s.remove_fields(["pixel-aspect-ratio", "colorimetry"]);
        }
        assert!(back.can_intersect(&caps), "{} and back {back}", situation());
    }
}

/// Sends a small frame of each of the caps through the element.
fn stream(element: &gst::Element, bus: &gst::Bus, inputs: [&gst::Caps; 2], downstream: &gst::Caps) {
    let scale: gst::Fraction = element.property("scale");
    let most = match scale.numer() / scale.denom() {
        0..=2 => 64,
        3..=4 => 24,
        _ => 8,
    };
    let small = |side| {
        let side = gst::IntRange::new(1, side);
        let caps = gst::Caps::builder("video/x-raw").field("width", side);
        caps.field("height", side).build()
    };
    let limited = match downstream.is_any() {
        true => downstream.clone(),
        false => downstream.intersect(&small(256)),
    };
    let Some(mut line) = Line::start(element, bus, &limited) else {
        panic!("the element does not start: {:?}", take_errors(bus));
    };
    for input in inputs {
        let mut input = input.intersect(&small(most));
        if input.is_empty() {
            continue;
        }
        input.fixate();
        // Sources of GStreamer state it; without, the output would take downstream's.
        let mode = "interlace-mode";
        if input.structure(0).is_some_and(|s| !s.has_field(mode)) {
            input.make_mut().set(mode, "progressive");
        }
        let sent = line.negotiate(&input);
        let info = VideoInfo::from_caps(&input);
        let result = match &info {
            Ok(info) if sent => line.push(info).map(|_| ()),
            _ => Err(gst::FlowError::NotNegotiated),
        };
        let (frames, errors) = (line.take_frames(), line.take_errors());
        let situation = || format!("scale {scale}: {input} to {limited}, {result:?}, {errors:?}");
        if result.is_err() {
            assert!(frames.is_empty(), "{}", situation());
            let possible = pad(element, "sink")
                .pad_template_caps()
                .can_intersect(&input)
                && line
                    .sink
                    .query_caps(None)
                    .can_intersect(&pad(element, "src").query_caps(None));
            assert!(
                !errors.is_empty() || !possible || info.is_err(),
                "refused without a word: {}",
                situation()
            );
            continue;
        }
        let output = line.sink.current_caps().expect("frames have caps");
        let to = VideoInfo::from_caps(&output).expect("the output's caps are video");
        assert!(errors.is_empty() && frames.len() == 1, "{}", situation());
        assert!(
            output.is_fixed() && output.is_subset(&limited),
            "{} got {output}",
            situation()
        );
        assert_eq!(frames[0].size(), to.size(), "{} got {output}", situation());
        if limited.is_any() && scale.numer() > 0 {
            let from = info.expect("it was pushed");
            for (from, to) in [(from.width(), to.width()), (from.height(), to.height())] {
                let (numer, denom) = (i64::from(scale.numer()), i64::from(scale.denom()));
                let error = i64::from(to) * denom - i64::from(from) * numer;
                assert!(
                    error.abs() <= denom || to <= 2,
                    "{} got {output}",
                    situation()
                );
            }
        }
    }
}
