use flyhot_artifact::beam::{Beam, rename::rename};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
fn main() {
    let mut a = std::env::args().skip(1);
    let out = a.next().unwrap();
    std::fs::create_dir_all(&out).unwrap();
    let files: Vec<String> = a.collect();
    let t = Instant::now();
    let beams: Vec<Beam> = files
        .iter()
        .map(|f| Beam::parse(&std::fs::read(f).unwrap()).unwrap_or_else(|e| panic!("{f}: {e}")))
        .collect();
    let t1 = t.elapsed();
    let md5: Vec<[u8; 16]> = beams.iter().map(Beam::md5).collect();
    let t2 = t.elapsed();
    let ol = beams.iter().filter(|b| b.has_on_load().unwrap()).count();
    let t3 = t.elapsed();
    let aliases: BTreeMap<String, String> = beams
        .iter()
        .map(|b| (b.module().to_owned(), format!("flyhot${}", b.module())))
        .collect();
    let (mut ok, mut bad) = (0, BTreeMap::<String, Vec<String>>::new());
    let mut m = String::new();
    for ((b, f), d) in beams.iter().zip(&files).zip(&md5) {
        m += &format!(
            "{} {}\n",
            d.iter().map(|x| format!("{x:02x}")).collect::<String>(),
            f
        );
        match rename(b, &aliases) {
            Ok(x) => {
                ok += 1;
                std::fs::write(Path::new(&out).join(format!("flyhot${}.beam", b.module())), x).unwrap()
            }
            Err(e) => bad.entry(e.to_string()).or_default().push(b.module().into()),
        }
    }
    std::fs::write(Path::new(&out).join("MD5"), m).unwrap();
    println!(
        "{} beams, parse {:?} md5 {:?} on_load {} {:?} total {:?}; copies {ok}; refused {bad:?}",
        beams.len(),
        t1,
        t2 - t1,
        ol,
        t3 - t2,
        t.elapsed()
    );
}
