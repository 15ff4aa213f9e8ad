//! `sr models`: the table of models.

use crate::args::ModelsArgs;
use anyhow::Result;
use serde::Serialize;
use srfilter::models::{Channels, MODELS, Model, Scales};
use srfilter::weights::Loaded;
use std::io::{self, Write};

/// One model, as `--json` prints it.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    /// `None`: takes pictures of any kind.
    channels: Option<Channels>,
    /// `None`: depends on the weights file.
    scales: Option<Scales>,
    /// Whether it runs without a weights file.
    built_in: bool,
    summary: &'static str,
}

impl Entry {
    fn new(model: &'static Model) -> Result<Self> {
        let architecture = (model.architecture)();
        let built_in = architecture.is_none() || !model.built_in.is_empty();
        let scales = match &architecture {
            None => Some(Scales::Any),
            Some(_) if built_in => Some(Loaded::built_in(model.name)?.scales().clone()),
            Some(architecture) => architecture.scales(),
        };
        Ok(Self {
            name: model.name,
            channels: architecture.map(|a| a.channels()),
            scales,
            built_in,
            summary: model.summary,
        })
    }

    fn cells(&self) -> [String; 5] {
        let or_any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
        let scales = self.scales.as_ref().map(Scales::to_string);
        [
            self.name.to_owned(),
            or_any(self.channels.map(|c| c.to_string())),
            scales.unwrap_or_else(|| "the file's".to_owned()),
            if self.built_in { "built in" } else { "a file" }.to_owned(),
            self.summary.to_owned(),
        ]
    }
}

/// Prints the table.
pub(crate) fn run(args: &ModelsArgs) -> Result<()> {
    let entries: Vec<Entry> = MODELS.iter().map(Entry::new).collect::<Result<_>>()?;
    let mut out = io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&entries)?;
        writeln!(out, "{json}")?;
        return Ok(());
    }
    let titles = ["model", "channels", "scales", "weights", "summary"].map(str::to_owned);
    let mut rows = vec![titles];
    rows.extend(entries.iter().map(Entry::cells));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [a, b, c, d] = [width(0), width(1), width(2), width(3)];
    for [name, channels, scales, weights, summary] in &rows {
        writeln!(
            out,
            "{name:a$}  {channels:b$}  {scales:c$}  {weights:d$}  {summary}"
        )?;
    }
    if entries.iter().any(|entry| !entry.built_in) {
        writeln!(
            out,
            "\nModels with weights from 'a file' need --weights FILE; \
             'cargo run --release --bin train' makes one."
        )?;
    }
    Ok(())
}
