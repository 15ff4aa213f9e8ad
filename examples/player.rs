//! Plays a file, a camera or a test picture, and shows before and after.
//!
//! The plugin is linked into the program: nothing needs to be installed.
//!
//! ```sh
//! cargo run --release --example player -- FILE|camera|test \
//!     [--model NAME] [--scale N[/M]] [--sink ELEMENT]
//! ```
//!
//! Keys in the terminal: [`KEYS`]. A file's sound goes to `autoaudiosink`.

use anyhow::{Context, Result, bail};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal;
use gst::glib;
use gst::prelude::*;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Help on the keys.
const KEYS: &str =
    "m/M model  +/- scale  s/S strength  left/right split  c compare  space pause  q quit";

/// The values of the property `compare`, in the order of the key.
const COMPARE: [&str; 4] = ["none", "split", "side-by-side", "difference"];

/// Steps of the scale are 1/2; the largest one of the keys.
const LARGEST_SCALE: i32 = 8;

/// Time between two status lines.
const REFRESH: Duration = Duration::from_millis(200);

/// Time that a key may wait.
const POLL: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    gst::init()?;
    gstsrfilter::plugin_register_static()?;
    let player = Player::new(&Options::parse()?)?;
    let result = player.play();
    player.pipeline.set_state(gst::State::Null)?;
    println!("end: {}", player.status());
    result
}

/// The command line.
struct Options {
    source: String,
    model: String,
    scale: gst::Fraction,
    sink: String,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            source: String::new(),
            model: "espcn".to_owned(),
            scale: gst::Fraction::new(2, 1),
            sink: "autovideosink".to_owned(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--model" => options.model = value()?,
                "--sink" => options.sink = value()?,
                "--scale" => {
                    let text = value()?;
                    let (numer, denom) = text.split_once('/').unwrap_or((&text, "1"));
                    options.scale = gst::Fraction::new(numer.parse()?, denom.parse()?);
                }
                _ => options.source = arg,
            }
        }
        if options.source.is_empty() {
            bail!("usage: player FILE|camera|test [--model NAME] [--scale N[/M]] [--sink ELEMENT]");
        }
        Ok(options)
    }
}

struct Player {
    pipeline: gst::Pipeline,
    sr: gst::Element,
}

impl Player {
    fn new(options: &Options) -> Result<Self> {
        let filter = "videoconvert ! srfilter name=sr ! videoconvert";
        let source = match options.source.as_str() {
            "camera" => "autovideosrc".to_owned(),
            "test" => "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1"
                .to_owned(),
            file => return Self::of_file(file, filter, options),
        };
        let sink = &options.sink;
        let pipeline = gst::parse::launch(&format!("{source} ! {filter} ! {sink}"))?;
        let pipeline = pipeline.downcast::<gst::Pipeline>();
        Self::of(pipeline.ok().context("not a pipeline")?, options)
    }

    /// With sound, if there is any.
    fn of_file(file: &str, filter: &str, options: &Options) -> Result<Self> {
        let uri = match file.contains("://") {
            true => file.to_owned(),
            false => glib::filename_to_uri(std::path::absolute(file)?, None)?.into(),
        };
        let filter = gst::parse::bin_from_description(filter, true)?;
        let sink = gst::parse::bin_from_description(&options.sink, true)?;
        let pipeline = gst::ElementFactory::make("playbin")
            .property("uri", uri)
            .property("video-filter", &filter)
            .property("video-sink", &sink)
            .build()?;
        let pipeline = pipeline.downcast::<gst::Pipeline>();
        let sr = filter.by_name("sr");
        let pipeline = pipeline.ok().context("playbin is not a pipeline")?;
        Self::with(pipeline, sr, options)
    }

    fn of(pipeline: gst::Pipeline, options: &Options) -> Result<Self> {
        let sr = pipeline.by_name("sr");
        Self::with(pipeline, sr, options)
    }

    fn with(pipeline: gst::Pipeline, sr: Option<gst::Element>, options: &Options) -> Result<Self> {
        let sr = sr.context("no element srfilter")?;
        sr.set_property("model", &options.model);
        sr.set_property("scale", options.scale);
        Ok(Self { pipeline, sr })
    }

    /// Plays until the end, or the key that quits.
    fn play(&self) -> Result<()> {
        let terminal = Terminal::open();
        match &terminal {
            Some(_) => print!("{KEYS}\r\n"),
            None => println!("no terminal, so no keys ({KEYS}): playing to the end"),
        }
        self.pipeline.set_state(gst::State::Playing)?;
        let bus = self.pipeline.bus().context("the pipeline has no bus")?;
        let mut shown = Instant::now();
        loop {
            // With a terminal, keys are waited for instead.
            let wait = if terminal.is_some() {
                Duration::ZERO
            } else {
                REFRESH
            };
            while let Some(message) = bus.timed_pop(gst::ClockTime::try_from(wait)?) {
                match message.view() {
                    gst::MessageView::Eos(_) => return Ok(()),
                    gst::MessageView::Error(e) => bail!("{} ({:?})", e.error(), e.debug()),
                    gst::MessageView::Warning(w) => eprint!("\r\x1b[Kwarning: {}\r\n", w.error()),
                    gst::MessageView::Latency(_) => self.pipeline.recalculate_latency()?,
                    _ => {}
                }
            }
            if terminal.is_none() {
                continue;
            }
            if event::poll(POLL)?
                && let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && !self.press(key)?
            {
                return Ok(());
            }
            if shown.elapsed() >= REFRESH {
                shown = Instant::now();
                // Clears the rest of the line.
                print!("\r{}\x1b[K", self.status());
                std::io::stdout().flush()?;
            }
        }
    }

    /// Obeys a key; returns whether to go on.
    fn press(&self, key: KeyEvent) -> Result<bool> {
        let KeyCode::Char(character) = key.code else {
            match key.code {
                KeyCode::Left => self.add("split-position", -0.05),
                KeyCode::Right => self.add("split-position", 0.05),
                KeyCode::Esc => return Ok(false),
                _ => {}
            }
            return Ok(true);
        };
        match character {
            'c' if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(false),
            'q' => return Ok(false),
            'm' => self.change_model(1),
            'M' => self.change_model(-1),
            '+' | '=' => self.change_scale(1),
            '-' => self.change_scale(-1),
            's' => self.add("strength", -0.1),
            'S' => self.add("strength", 0.1),
            'c' => {
                let now = COMPARE.iter().position(|&value| value == self.compare());
                let next = COMPARE[now.map_or(0, |now| (now + 1) % COMPARE.len())];
                self.sr.set_property_from_str("compare", next);
            }
            ' ' => {
                let paused = self.pipeline.current_state() == gst::State::Paused;
                let to = if paused {
                    gst::State::Playing
                } else {
                    gst::State::Paused
                };
                self.pipeline.set_state(to)?;
            }
            _ => {}
        }
        Ok(true)
    }

    /// Adds to a property of the range 0 to 1.
    fn add(&self, name: &str, change: f64) {
        let value = self.sr.property::<f64>(name) + change;
        // Sums of tenths miss the ends by a rounding error.
        let value = (100.0 * value).round() / 100.0;
        self.sr.set_property(name, value.clamp(0.0, 1.0));
    }

    /// Goes on by some places in the table of models that have weights.
    fn change_model(&self, by: isize) {
        let has_weights = |model: &&srfilter::ModelInfo| {
            !model.built_in.is_empty() || (model.architecture)().is_none()
        };
        let names: Vec<_> = srfilter::MODELS.iter().filter(has_weights).collect();
        let now: String = self.sr.property("model");
        let now = names.iter().position(|model| model.name == now);
        let next = (now.unwrap_or(0) as isize + by).rem_euclid(names.len() as isize);
        self.sr.set_property("model", names[next as usize].name);
    }

    /// Changes the scale by halves.
    fn change_scale(&self, by: i32) {
        let scale: gst::Fraction = self.sr.property("scale");
        let halves = 2 * scale.numer() / scale.denom() + by;
        let halves = halves.clamp(2, 2 * LARGEST_SCALE);
        self.sr.set_property("scale", gst::Fraction::new(halves, 2));
    }

    /// The value of the property `compare`.
    fn compare(&self) -> String {
        let value = self.sr.property_value("compare");
        let value = glib::EnumValue::from_value(&value);
        value.map_or_else(String::new, |(_, value)| value.nick().to_owned())
    }

    fn status(&self) -> String {
        let stats: gst::Structure = self.sr.property("stats");
        let scale: gst::Fraction = self.sr.property("scale");
        let model: String = stats.get("active-model").unwrap_or_default();
        let milliseconds: f64 = stats.get("last-ms").unwrap_or_default();
        let [shown, dropped, missing] =
            ["processed", "dropped", "missing"].map(|name| stats.get::<u64>(name).unwrap_or(0));
        format!(
            "{model} x{} strength {:.2} {} at {:.2} | {milliseconds:.1} ms/frame, {shown} frames, {} dropped",
            f64::from(scale.numer()) / f64::from(scale.denom()),
            self.sr.property::<f64>("strength"),
            self.compare(),
            self.sr.property::<f64>("split-position"),
            dropped + missing,
        )
    }
}

/// A terminal that hands over each key; restored when dropped.
struct Terminal;

impl Terminal {
    /// `None` if input or output is no terminal.
    fn open() -> Option<Self> {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        (is_terminal && terminal::enable_raw_mode().is_ok()).then_some(Self)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing can be done about a failure.
        let _ = terminal::disable_raw_mode();
        println!();
    }
}
