//! What the facade shows of candle.

use crate::tokens::tokens;
use std::collections::BTreeSet;

const HIDDEN: [&str; 7] = ["#", "[", "doc", "(", "hidden", ")", "]"];

/// The names that a crate's `lib.rs` re-exports and documents.
pub(crate) fn exports(lib: &str) -> BTreeSet<String> {
    let tokens = tokens(lib);
    let mut names = BTreeSet::new();
    for i in starts(&tokens, &["pub", "use"]) {
        let path = || tokens[i..].iter().take_while(|token| *token != ";");
        let is_item = |token: &&String| token.starts_with(char::is_uppercase);
        if !is_hidden(&tokens, i) {
            names.extend(path().filter(is_item).cloned());
        }
    }
    names
}

/// The public signatures of `facade` in a file, and the headers of its trait
/// implementations, that name an item of candle's.
pub(crate) fn leaks(text: &str, facade: &BTreeSet<String>) -> Vec<String> {
    let tokens = tokens(text);
    let candle = candle_names(&tokens);
    let mut leaks = Vec::new();
    let mut check = |signature: &[String]| {
        if signature.iter().any(|token| candle.contains(token)) {
            leaks.push(signature.join(" "));
        }
    };
    for kind in ["struct", "enum", "trait", "type", "fn", "static", "const"] {
        for i in starts(&tokens, &["pub", kind]) {
            let body = &tokens[i..end_of_item(&tokens, i)];
            if facade.contains(&body[2]) && kind == "struct" {
                public_parts(body).into_iter().for_each(&mut check);
            } else if facade.contains(&body[2]) {
                check(body);
            }
        }
    }
    for i in starts(&tokens, &["impl"]) {
        let header = &tokens[i..until(&tokens, i, &["{"])];
        let is_block = i == 0 || ["}", ";", "{", "]", "unsafe"].contains(&tokens[i - 1].as_str());
        let of = header.iter().position(|token| token == "for");
        let mut of_type = header[of.unwrap_or(0)..].iter();
        if !is_block || !of_type.any(|token| facade.contains(token)) || is_hidden(&tokens, i) {
            continue;
        }
        check(header);
        if of.is_none() {
            let body = &tokens[i..end_of_item(&tokens, i)];
            public_parts(body).into_iter().for_each(&mut check);
        }
    }
    leaks
}

/// The fields or signatures in a body that are public and documented.
fn public_parts(body: &[String]) -> Vec<&[String]> {
    let public = starts(body, &["pub"]).into_iter().filter(|&i| {
        let is_item = i > 0 && body[i + 1] != "(";
        is_item && !is_hidden(body, i)
    });
    public
        .map(|i| &body[i..until(body, i, &["{", ";", "}", "pub", "#"])])
        .collect()
}

/// What a file imports from candle, and candle's crates themselves.
fn candle_names(tokens: &[String]) -> BTreeSet<String> {
    let crates = ["candle_core", "candle_nn"];
    let mut names = BTreeSet::from(crates.map(str::to_owned));
    for first in crates {
        for i in starts(tokens, &["use", first]) {
            let path = &tokens[i + 1..until(tokens, i, &[";"])];
            let is_type = |token: &&String| token.starts_with(char::is_uppercase);
            names.extend(path.iter().filter(is_type).cloned());
        }
    }
    names
}

/// Where these tokens follow each other.
fn starts(tokens: &[String], words: &[&str]) -> Vec<usize> {
    let windows = tokens.windows(words.len()).enumerate();
    windows
        .filter(|(_, w)| w == &words)
        .map(|(i, _)| i)
        .collect()
}

/// The first place after `from` of one of these tokens.
fn until(tokens: &[String], from: usize, ends: &[&str]) -> usize {
    let found = tokens[from + 1..]
        .iter()
        .position(|token| ends.contains(&token.as_str()));
    found.map_or(tokens.len(), |at| from + 1 + at)
}

/// The end of the item that begins there: its `;`, or the end of its braces.
fn end_of_item(tokens: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(from) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && [";", "}"].contains(&token.as_str()) {
            return i + 1;
        }
    }
    tokens.len()
}

/// Whether `#[doc(hidden)]` is among the attributes before the item.
fn is_hidden(tokens: &[String], item: usize) -> bool {
    let mut end = item;
    while end > 0 && tokens[end - 1] == "]" {
        let start = tokens[..end].iter().rposition(|token| token == "#");
        let start = start.unwrap_or(0);
        if tokens[start..end] == HIDDEN {
            return true;
        }
        end = start;
    }
    false
}
