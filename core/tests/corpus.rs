//! Replays the committed corpus of the fuzz targets, so that what fuzzing once found stays found on every machine.

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library where the fuzz targets use it")]
mod fuzz;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// The names in a folder, without extension.
fn names(path: &Path) -> BTreeSet<String> {
    fs::read_dir(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().into())
        .collect()
}

#[test]
fn every_target_has_a_body_and_a_corpus() {
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(names(&folder("fuzz_targets")), targets);
    assert_eq!(names(&folder("corpus")), targets);
}

#[test]
#[expect(clippy::print_stdout, reason = "shown only where the test fails")]
fn the_committed_corpus_passes() {
    for (target, _) in fuzz::TARGETS {
        let corpus = folder("corpus").join(target);
        let mut count = 0;
        for entry in fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            // The name of the file that fails, on the last line before the panic's.
            println!("{}", path.display());
            fuzz::run(target, &fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{} is empty", corpus.display());
    }
}
