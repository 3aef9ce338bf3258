//! The page of a certificate, in a real browser: one file that fetches nothing, printed on paper, with everything that matters on it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use super::certificate::{file, with_another_byte};
use crate::{drop::Site, harness::postgres::Options};

/// What a reader of the printed page reads, and how many sheets of A4 it takes. The browser prints what it shows.
fn printed(folder: &Path, html: &str) -> (String, u32) {
    let (source, pdf) = (folder.join("page.html"), folder.join("page.pdf"));
    fs::write(&source, html).unwrap();
    let mut browser = Command::new("chromium");
    // Root may not use its sandbox; the page is our own.
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-pdf-header-footer"]);
    browser.arg(format!("--user-data-dir={}", folder.join("browser").display()));
    browser.arg(format!("--print-to-pdf={}", pdf.display())).arg(format!("file://{}", source.display()));
    let output = browser.env("HOME", folder).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && pdf.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let pdf = pdf.to_str().unwrap();
    let info = run("pdfinfo", &[pdf]);
    assert!(info.contains("(A4)"), "{info}");
    let pages = info.lines().find_map(|line| line.strip_prefix("Pages:")).unwrap().trim().parse().unwrap();
    // One space where lines were broken.
    let text = run("pdftotext", &["-raw", pdf, "-"]);
    (text.split_whitespace().collect::<Vec<_>>().join(" "), pages)
}

#[test]
fn a_certificate_is_a_page_that_can_be_printed() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme", "globex"]);
    let program = &site.program;
    let hostile = "<script>document.title = 'taken'</script><img src=https://example.com/x>";
    site.configure(
        "[cluster.here]\n",
        &format!("[[elsewhere]]\nname = \"{hostile}\"\ngone_after = \"35 days\"\n\n[cluster.here]\n"),
    );
    let (code, suspended) = site.erase("acme", &["--reference", "DSR-117"]);
    assert_eq!(code, 3, "{suspended:#}");
    let (code, report) = site.erase("globex", &["--skip-grace", "--identity", "recovery-kit.txt"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    let (open, closed) = (suspended["certificate"].as_str().unwrap(), report["certificate"].as_str().unwrap());
    let folder = tempfile::Builder::new().prefix("tenure-page-").tempdir().unwrap();
    let page = |arguments: &[&str]| {
        let (code, html, errors) = program.say(&[&["certificate", "render"], arguments].concat());
        assert_eq!((code, errors.as_str()), (0, ""), "{html}");
        html
    };

    // What is over.
    let html = page(&[closed, "--tenant", "globex"]);
    for outside in ["url(", "@import", "<script", "<link", "<img", "<iframe", "<a "] {
        assert!(!html.contains(outside), "{outside}: {html}");
    }
    let (text, pages) = printed(folder.path(), &html);
    assert!(pages <= 3, "{pages} pages: {text}");
    let certificate = program.done(&["certificate", "show", closed]);
    let said = |pointer: &str| certificate.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    for expected in [
        closed.to_owned(),
        "CERTIFICATE OF ERASURE globex closed".to_owned(),
        said("/certificate/name_tag"),
        said("/certificate/live/nodes/0/drop_lsn"),
        said("/certificate/live/nodes/1/replay_lsn"),
        said("/certificate/backups/inventory/files/0/sha256"),
        said("/certificate/keys/copies/0/store"),
        said("/certificate/keys/opened/chunk_sha256"),
        said("/certificate/remains/always/0"),
        said("/signed/sha256"),
        hostile.to_owned(),
        format!("ssh-keygen -Y verify -f allowed_signers -I {} -n tenure-erasure", said("/signed/principal")),
    ] {
        // A digest may be broken between two lines.
        assert!(text.replace(' ', "").contains(&expected.replace(' ', "")), "{expected} is missing: {text}");
    }
    assert!(!text.contains("not complete"), "{text}");

    // What is not, and whose name nobody said.
    let (text, _) = printed(folder.path(), &page(&[open]));
    for expected in ["suspended", "This erasure is not complete", "grace", "DSR-117"] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    assert!(!text.contains("acme"), "{text}");

    // Nobody else's name comes on it, and what was changed comes on no page.
    let refused = program.refused(4, &["certificate", "render", closed, "--tenant", "acme"]);
    assert_eq!(refused["kind"], "another-tenant", "{refused:#}");
    with_another_byte(&file(&site, &format!("{closed}/3.json")), || {
        let (code, html, errors) = program.say(&["certificate", "render", closed]);
        assert_eq!((code, html.as_str()), (5, ""), "{errors}");
    });
}
