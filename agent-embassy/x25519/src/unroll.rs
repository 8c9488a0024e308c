//! Straight-line code for limbs that are handled alike.

/// Repeats a block for each of the numbers, with the number as a constant: a loop that costs no instructions at any
/// optimisation level, and whose indices the compiler checks.
macro_rules! unroll {
    ($index:ident in [$($number:literal)*] $body:block) => {
        $({
            const $index: usize = $number;
            $body
        })*
    };
}
