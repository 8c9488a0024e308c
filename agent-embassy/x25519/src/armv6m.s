// Products of half elements for ARMv6-M, two columns at a time. `half_product.rs` has the contract.
//
//     r0 result, moves on    r1 a    r2 b    r3 lower column    r4 upper column    r5 to r7 limbs
//
// In the columns k and k + 1 each limb of a meets two neighbouring limbs of b, and each limb of b two of a. So with
// the limb of b from the step before still held, a step loads one limb of each and makes two products. A multiply
// overwrites one of its operands: always one that is needed no more.

.syntax unified
.thumb

// Both columns' first products: a[i] * b[j] and a[i] * b[j + 1]. b[j] is then held.
.macro both_first i, j, j1, hold
    ldr r4, [r2, #4*\j1]
    ldr r3, [r1, #4*\i]
    muls r4, r3
    ldr \hold, [r2, #4*\j]
    muls r3, \hold
.endm

// The lower column's first product alone: a[i] * b[j]. b[j] is then in r4.
.macro lower_first i, j
    ldr r3, [r1, #4*\i]
    ldr r4, [r2, #4*\j]
    muls r3, r4
.endm

// The upper column's first product, a[i] * r4, and the lower column's a[i] * b[j]. b[j] is then held.
.macro upper_first i, j, hold
    ldr r5, [r1, #4*\i]
    muls r4, r5
    ldr \hold, [r2, #4*\j]
    muls r5, \hold
    adds r3, r5
.endm

// The upper column's a[i] * held, and the lower column's a[i] * b[j]. b[j] is then held.
.macro both i, j, held, hold
    ldr r5, [r1, #4*\i]
    muls \held, r5
    adds r4, \held
    ldr \hold, [r2, #4*\j]
    muls r5, \hold
    adds r3, r5
.endm

// The upper column's last product: a[i] * held.
.macro upper i, held
    ldr r5, [r1, #4*\i]
    muls \held, r5
    adds r4, \held
.endm

// The end of two columns of a square: the upper column's a[i] * held, both columns doubled, and the lower column's
// square of a[i].
.macro last i, held
    upper \i, \held
    doubled_and_square
.endm

// The same where it is the upper column's first product, with the limb in r4.
.macro last_first i
    ldr r5, [r1, #4*\i]
    muls r4, r5
    doubled_and_square
.endm

.macro doubled_and_square
    lsls r3, r3, #1
    lsls r4, r4, #1
    muls r5, r5
    adds r3, r5
.endm

.section .text.weft_x25519_multiply_half, "ax", %progbits
.global weft_x25519_multiply_half
.type weft_x25519_multiply_half, %function
.thumb_func
.balign 4
weft_x25519_multiply_half:
    push {r4, r5, r6, r7, lr}
    // columns 0 and 1
    both_first 0, 0, 1, r7
    upper 1, r7
    stmia r0!, {r3, r4}
    // columns 2 and 3
    both_first 0, 2, 3, r7
    both 1, 1, r7, r6
    both 2, 0, r6, r7
    upper 3, r7
    stmia r0!, {r3, r4}
    // columns 4 and 5
    both_first 0, 4, 5, r7
    both 1, 3, r7, r6
    both 2, 2, r6, r7
    both 3, 1, r7, r6
    both 4, 0, r6, r7
    upper 5, r7
    stmia r0!, {r3, r4}
    // columns 6 and 7
    both_first 0, 6, 7, r7
    both 1, 5, r7, r6
    both 2, 4, r6, r7
    both 3, 3, r7, r6
    both 4, 2, r6, r7
    both 5, 1, r7, r6
    both 6, 0, r6, r7
    upper 7, r7
    stmia r0!, {r3, r4}
    // columns 8 and 9
    both_first 0, 8, 9, r7
    both 1, 7, r7, r6
    both 2, 6, r6, r7
    both 3, 5, r7, r6
    both 4, 4, r6, r7
    both 5, 3, r7, r6
    both 6, 2, r6, r7
    both 7, 1, r7, r6
    both 8, 0, r6, r7
    upper 9, r7
    stmia r0!, {r3, r4}
    // columns 10 and 11
    lower_first 1, 9
    upper_first 2, 8, r7
    both 3, 7, r7, r6
    both 4, 6, r6, r7
    both 5, 5, r7, r6
    both 6, 4, r6, r7
    both 7, 3, r7, r6
    both 8, 2, r6, r7
    both 9, 1, r7, r6
    stmia r0!, {r3, r4}
    // columns 12 and 13
    lower_first 3, 9
    upper_first 4, 8, r7
    both 5, 7, r7, r6
    both 6, 6, r6, r7
    both 7, 5, r7, r6
    both 8, 4, r6, r7
    both 9, 3, r7, r6
    stmia r0!, {r3, r4}
    // columns 14 and 15
    lower_first 5, 9
    upper_first 6, 8, r7
    both 7, 7, r7, r6
    both 8, 6, r6, r7
    both 9, 5, r7, r6
    stmia r0!, {r3, r4}
    // columns 16 and 17
    lower_first 7, 9
    upper_first 8, 8, r7
    both 9, 7, r7, r6
    stmia r0!, {r3, r4}
    // column 18
    ldr r3, [r1, #4*9]
    ldr r5, [r2, #4*9]
    muls r3, r5
    str r3, [r0]
    pop {r4, r5, r6, r7, pc}
.size weft_x25519_multiply_half, . - weft_x25519_multiply_half

.section .text.weft_x25519_square_half, "ax", %progbits
.global weft_x25519_square_half
.type weft_x25519_square_half, %function
.thumb_func
.balign 4
weft_x25519_square_half:
    push {r4, r5, r6, r7, lr}
    mov r2, r1
    // columns 0 and 1
    ldr r3, [r1, #4*0]
    ldr r4, [r1, #4*1]
    muls r4, r3
    lsls r4, r4, #1
    muls r3, r3
    stmia r0!, {r3, r4}
    // columns 2 and 3
    both_first 0, 2, 3, r7
    last 1, r7
    stmia r0!, {r3, r4}
    // columns 4 and 5
    both_first 0, 4, 5, r7
    both 1, 3, r7, r6
    last 2, r6
    stmia r0!, {r3, r4}
    // columns 6 and 7
    both_first 0, 6, 7, r7
    both 1, 5, r7, r6
    both 2, 4, r6, r7
    last 3, r7
    stmia r0!, {r3, r4}
    // columns 8 and 9
    both_first 0, 8, 9, r7
    both 1, 7, r7, r6
    both 2, 6, r6, r7
    both 3, 5, r7, r6
    last 4, r6
    stmia r0!, {r3, r4}
    // columns 10 and 11
    lower_first 1, 9
    upper_first 2, 8, r7
    both 3, 7, r7, r6
    both 4, 6, r6, r7
    last 5, r7
    stmia r0!, {r3, r4}
    // columns 12 and 13
    lower_first 3, 9
    upper_first 4, 8, r7
    both 5, 7, r7, r6
    last 6, r6
    stmia r0!, {r3, r4}
    // columns 14 and 15
    lower_first 5, 9
    upper_first 6, 8, r7
    last 7, r7
    stmia r0!, {r3, r4}
    // columns 16 and 17
    lower_first 7, 9
    last_first 8
    stmia r0!, {r3, r4}
    // column 18
    ldr r3, [r1, #4*9]
    muls r3, r3
    str r3, [r0]
    pop {r4, r5, r6, r7, pc}
.size weft_x25519_square_half, . - weft_x25519_square_half
