//! The instruction set: how many operands each instruction has.
//!
//! Numbers are never reused between OTP releases, so the table of OTP 29 serves 25 and later. An instruction beyond
//! it is refused.
//!
//! Source: `beam_opcodes:opname/1` of OTP 29 (equal to that of 25 and 27 as far as those go).

pub(super) const LABEL: u8 = 1;
pub(super) const FUNC_INFO: u8 = 2;
pub(super) const INT_CODE_END: u8 = 3;
pub(super) const CALL: u8 = 4;
pub(super) const CALL_LAST: u8 = 5;
pub(super) const CALL_ONLY: u8 = 6;
pub(super) const CALL_EXT: u8 = 7;
pub(super) const CALL_EXT_LAST: u8 = 8;
pub(super) const CALL_EXT_ONLY: u8 = 78;
pub(super) const BIF0: u8 = 9;
pub(super) const BIF1: u8 = 10;
pub(super) const BIF2: u8 = 11;
pub(super) const BIF3: u8 = 185;
pub(super) const GC_BIF1: u8 = 124;
pub(super) const GC_BIF2: u8 = 125;
pub(super) const GC_BIF3: u8 = 152;
pub(super) const RETURN: u8 = 19;
pub(super) const SEND: u8 = 20;
pub(super) const REMOVE_MESSAGE: u8 = 21;
pub(super) const LOOP_REC: u8 = 23;
pub(super) const LOOP_REC_END: u8 = 24;
pub(super) const WAIT: u8 = 25;
pub(super) const WAIT_TIMEOUT: u8 = 26;
pub(super) const CALL_FUN: u8 = 75;
pub(super) const CALL_FUN2: u8 = 178;
pub(super) const MAKE_FUN2: u8 = 103;
pub(super) const MAKE_FUN3: u8 = 171;
pub(super) const GET_MAP_ELEMENTS: u8 = 158;
pub(super) const MOVE: u8 = 64;
pub(super) const APPLY: u8 = 112;
pub(super) const APPLY_LAST: u8 = 113;
pub(super) const ON_LOAD: u8 = 149;
pub(super) const LINE: u8 = 153;
pub(super) const EXECUTABLE_LINE: u8 = 183;
pub(super) const DEBUG_LINE: u8 = 184;
pub(super) const PUT_TUPLE2: u8 = 164;
pub(super) const PUT_LIST: u8 = 69;
pub(super) const PUT_MAP_ASSOC: u8 = 154;
pub(super) const PUT_MAP_EXACT: u8 = 155;
pub(super) const GET_LIST: u8 = 65;
pub(super) const GET_TUPLE_ELEMENT: u8 = 66;
pub(super) const GET_HD: u8 = 162;
pub(super) const GET_TL: u8 = 163;
pub(super) const IS_MAP: u8 = 156;
pub(super) const SELECT_VAL: u8 = 59;
pub(super) const SELECT_TUPLE_ARITY: u8 = 60;
pub(super) const SWAP: u8 = 169;
pub(super) const TRIM: u8 = 136;
pub(super) const CATCH: u8 = 62;
pub(super) const TRY: u8 = 104;
pub(super) const BS_PUT_STRING: u8 = 92;
pub(super) const BS_MATCH_STRING: u8 = 132;
pub(super) const BS_CREATE_BIN: u8 = 177;
pub(super) const BS_MATCH: u8 = 182;

/// Whether it only looks at its operands and goes to its first where they are not what it asks for: `is_lt` to
/// `test_arity`, `is_function`, `is_boolean`, `is_function2`, `is_bitstr`, `has_map_fields`, `is_tagged_tuple`.
pub(super) fn is_test(op: u8) -> bool {
    matches!(op, 39..=58 | 77 | 114 | 115 | 129 | 157 | 159)
}

/// Whether it makes a stack frame or takes it away: `allocate` and the like, `deallocate`.
pub(super) fn is_frame(op: u8) -> bool {
    matches!(op, 12..=15 | 18)
}

/// Whether nothing comes behind it: a return, a last call, `jump`, and what raises or goes back to a receive.
pub(super) fn is_end(op: u8) -> bool {
    matches!(
        op,
        CALL_LAST
            | CALL_ONLY
            | CALL_EXT_LAST
            | CALL_EXT_ONLY
            | APPLY_LAST
            | RETURN
            | LOOP_REC_END
            | WAIT
            | 61
            | 72
            | 73
            | 74
            | 107
            | 108
            | 180
    )
}

/// Whether it writes x registers that it does not mention: `catch_end`, `try_case`, `build_stacktrace`, `raw_raise`.
pub(super) fn forgets_x(op: u8) -> bool {
    matches!(op, 63 | 106 | 160 | 161)
}

/// No such instruction.
const NONE: u8 = u8::MAX;

/// Operands by instruction number.
#[rustfmt::skip]
pub(super) const ARITY: [u8; 192] = [
    NONE, 1, 3, 0, 2, 3, 2, 2, 3, 2, 4, 5, 2, 3, 2, 3,
    2, 1, 1, 0, 0, 0, 0, 2, 1, 1, 2, 4, 4, 4, 4, 4,
    4, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 1, 2, 1,
    2, 3, 3, 3, 3, 3, 2, 1, 1, 0, 1, 1, 3, 2, 2, 2,
    5, 5, 5, 4, 2, 1, 1, 2, 2, 5, 5, 5, 2, 1, 0, 1,
    2, 2, 4, 4, 4, 4, 3, 1, 2, 1, 1, 1, 2, 6, 3, 5,
    1, 2, 2, 3, 5, 7, 7, 7, 5, 3, 2, 2, 5, 6, 2, 2,
    2, 2, 1, 3, 4, 0, 8, 6, 2, 6, 5, 4, 5, 4, 5, 4,
    3, 3, 3, 3, 3, 0, 1, 1, 7, 1, 5, 5, 2, 3, 3, 4,
    0, 0, 2, 2, 2, 3, 4, 3, 2, 2, 4, 3, 1, 2, 1, 1,
    1, 6, 3, 0, 1, 5, 3, 2, 4, 6, 2, 4, 3, 6, 3, 5,
];
