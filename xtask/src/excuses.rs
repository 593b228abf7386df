//! Lists of what may go unnoticed, each line below a comment that says why.

use crate::run;

/// The lines of the list at `path` in the workspace, in its order.
///
/// # Errors
/// When it cannot be read, or a line has no reason above it.
pub(crate) fn read(path: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(run::root().join(path));
    let text = text.map_err(|error| format!("{path}: {error}"))?;
    parse(&text).map_err(|line| format!("{path}: no reason for {line}"))
}

/// The listed lines, or the first without a reason.
fn parse(text: &str) -> Result<Vec<String>, &str> {
    let mut has_reason = false;
    let mut excused = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix('#') {
            Some(reason) => has_reason = !reason.trim().is_empty(),
            None if has_reason => excused.push(line.to_owned()),
            None => return Err(line),
        }
    }
    Ok(excused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_a_reason() {
        let excused = parse("# because\na: b\n\nc: d\n# another\ne: f\n").unwrap();
        assert_eq!(excused, ["a: b", "c: d", "e: f"]);
        assert_eq!(parse("a: b\n# too late\n"), Err("a: b"));
        assert_eq!(parse("# because\na: b\n#\nc: d\n"), Err("c: d"));
    }
}
