#![allow(missing_docs)]
use flyhot_tests::Flyhot;
#[test]
fn a() {
    let run = Flyhot::new(["fast"]).run();
    run.expect("refused", 10);
    assert_eq!(run.reason_codes(), ["x"]);
    assert!(run.step("window").is_some());
    assert_eq!(run.stderr, "oops\n");
    let mut r = Flyhot::new(["slow"]).spawn();
    r.wait_for_step("window");
    let run = r.kill();
    assert_eq!(run.exit_code, None);
    let mut r = Flyhot::new(["slow"]).spawn();
    r.wait_for_step("window");
    r.interrupt();
    println!("{}", r.wait());
    assert_eq!(Flyhot::new(["fast"]).shown(), 10);
    Flyhot::new(["fast"]).run().expect("upgraded", 0);
}
