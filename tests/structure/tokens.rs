//! A tokenizer for source files.

/// The tokens of a source without comments, literals and tests.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        let through = |end: &str, from: usize| {
            let found = rest.get(from..).and_then(|rest| rest.find(end));
            found.map_or(rest.len(), |at| from + at + end.len())
        };
        let second = rest.chars().nth(1).map_or(0, char::len_utf8);
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let length = match c {
            '/' if rest.starts_with("//") => through("\n", 0),
            'r' if rest.starts_with("r#\"") => through("\"#", 3),
            '"' => string_length(rest),
            '\'' if rest.starts_with("'\\") => through("'", 3),
            '\'' if rest[1 + second..].starts_with('\'') => second + 2,
            // Captured lifetimes, no import.
            'u' if rest.starts_with("use<") => through(">", 0),
            ':' if rest.starts_with("::") => 2,
            _ => word.unwrap_or(rest.len()).max(c.len_utf8()),
        };
        if is_name(rest) && !rest.starts_with("r#\"") || "#[](){};,:*=".contains(c) {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    without_tests(&tokens)
}

fn string_length(text: &str) -> usize {
    let mut escaped = true;
    let end = text.find(|c| {
        let end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        end
    });
    end.map_or(text.len(), |at| at + 1)
}

/// The tokens without test-only items.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let (mut out, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        let start = if tokens[i] == "#" { i } else { tokens.len() };
        let attribute = tokens[start..].iter().take_while(|token| *token != "]");
        let attribute: Vec<&str> = attribute.map(String::as_str).collect();
        let cfg = attribute.starts_with(&["#", "[", "cfg", "("]);
        if !cfg || !attribute.contains(&"test") || attribute.contains(&"not") {
            out.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += attribute.len() + 1;
        let mut depth = 0;
        while i < tokens.len() {
            match tokens[i].as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            i += 1;
            if depth == 0 && ["}", ";"].contains(&tokens[i - 1].as_str()) {
                break;
            }
        }
    }
    out
}

/// Whether a token is an identifier.
pub(crate) fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
