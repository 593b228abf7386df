//! Replays the committed corpora, or the inputs named, through their laws: `laws [LAW FILE…]`.

use std::{fs, path::Path, process::ExitCode};

use peer_tests::check::{LAWS, Law};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut replayed = 0;
    let mut broken = false;
    let mut replay = |name: &str, law: Law, path: &Path| match fs::read(path) {
        Ok(input) => {
            replayed += 1;
            if std::panic::catch_unwind(|| law(&input)).is_err() {
                println!("the law `{name}` is broken by {}", path.display());
                broken = true;
            }
        }
        Err(error) => {
            println!("{}: {error}", path.display());
            broken = true;
        }
    };
    for (name, law) in LAWS {
        match arguments.split_first() {
            Some((wanted, files)) if wanted == name => {
                for file in files {
                    replay(name, *law, Path::new(file));
                }
            }
            Some(_) => {}
            None => {
                for entry in fs::read_dir(corpus.join(name))
                    .into_iter()
                    .flatten()
                    .flatten()
                {
                    replay(name, *law, &entry.path());
                }
            }
        }
    }
    println!("{replayed} inputs replayed");
    if broken || replayed == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
