//! The repository follows its rules, and its generated pages are up to date.

#[test]
fn the_repository_is_tidy() {
    let files = xtask::source_files().expect("the repository's files");
    let problems = xtask::problems(&files);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn generated_pages_are_fresh() {
    let (pages, _) = xtask::all_pages().expect("all pages");
    let stale: Vec<_> = pages.iter().filter(|page| page.is_stale()).collect();
    let stale: Vec<_> = stale.iter().map(|page| page.path).collect();
    assert!(stale.is_empty(), "run `cargo xtask docs`: {stale:?}");
}
