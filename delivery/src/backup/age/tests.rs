//! Files that we made and that the stock tool made, and files that were harmed.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::Command,
};

use super::{Decrypt, Encrypt, Identity, Recipient, keys};

/// Of age's own documentation.
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

fn encrypted(content: &[u8], recipient: &Recipient) -> Vec<u8> {
    let mut encrypt = Encrypt::new(Vec::new(), recipient).unwrap();
    for piece in content.chunks(10_000) {
        encrypt.write_all(piece).unwrap();
    }
    encrypt.finish().unwrap()
}

fn decrypted(file: &[u8], identity: &Identity) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    Decrypt::new(file, identity)?.read_to_end(&mut content)?;
    Ok(content)
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

fn pair() -> (Recipient, Identity) {
    (Recipient::parse(IDENTITY).unwrap(), Identity::parse(IDENTITY).unwrap())
}

#[test]
fn what_was_encrypted_comes_back_at_every_length() {
    let (recipient, identity) = pair();
    for bytes in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let content = content(bytes);
        assert_eq!(decrypted(&encrypted(&content, &recipient), &identity).unwrap(), content);
    }
}

#[test]
fn another_key_or_kind_is_told() {
    let (recipient, _) = pair();
    let file = encrypted(b"secret", &recipient);
    let phrase = Identity::parse("correct horse battery").unwrap();
    let said = decrypted(&file, &phrase).unwrap_err().to_string();
    assert!(said.contains("for an identity"), "{said}");
    let other = encrypted(b"secret", &Recipient::parse("correct horse battery").unwrap());
    assert_eq!(decrypted(&other, &phrase).unwrap(), b"secret");
    let wrong = Identity::parse("correct horse battely").unwrap();
    assert!(decrypted(&other, &wrong).unwrap_err().to_string().contains("another key"));
    assert!(Recipient::parse("age1xyz").is_err() && Recipient::parse("short").is_err());
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let (recipient, identity) = pair();
    let content = content(140_000);
    let file = encrypted(&content, &recipient);
    // All of the header and of the borders between chunks, and some of the rest.
    let borders = [0, 65_552, 131_104].map(|chunk| chunk + 200);
    let close = |at: usize| at < 400 || borders.iter().any(|border| at.abs_diff(*border) < 40);
    for at in (0..file.len()).filter(|at| close(*at) || at % 1_009 == 0 || at + 40 > file.len()) {
        let mut harmed = file.clone();
        harmed[at] ^= 1 << (at % 8);
        assert!(decrypted(&harmed, &identity).is_err(), "a flipped bit at {at}");
        assert!(decrypted(&file[..at], &identity).is_err(), "cut at {at}");
    }
    let longer = [&file[..], b"x"].concat();
    assert!(decrypted(&longer, &identity).is_err());
}

fn run(folder: &Path, line: &str) {
    let done = Command::new("sh").args(["-c", line]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_stock_tool_reads_ours_and_we_read_its() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (recipient, identity) = pair();
    let Recipient::Key(public) = &recipient else { panic!("a key") };
    let public = keys::recipient_text(public);
    fs::write(path("key.txt"), IDENTITY).unwrap();
    for bytes in [0, 65_536, 300_000] {
        let content = content(bytes);
        fs::write(path("ours.age"), encrypted(&content, &recipient)).unwrap();
        run(folder.path(), "age -d -i key.txt ours.age > opened");
        assert_eq!(fs::read(path("opened")).unwrap(), content);
        run(folder.path(), &format!("age -r {public} -o theirs.age opened"));
        let theirs = fs::read(path("theirs.age")).unwrap();
        assert_eq!(decrypted(&theirs, &identity).unwrap(), content);
    }
}
