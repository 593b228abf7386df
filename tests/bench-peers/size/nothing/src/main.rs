//! What every program has: its size is std's.

fn main() {
    println!("0");
}
