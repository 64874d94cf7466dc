import Testing

@testable import TensorFormats

struct DTypeTests {
    @Test func `the ranks are the reference's order`() {
        let names = """
            BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 \
            F32 C64 F64 I64 U64
            """
        #expect(DType.allCases.map(\.name) == names.split(separator: " ").map(String.init))
        #expect(DType.allCases.map(\.rank) == Array(0..<22))
        #expect(DType.f32 < .c64 && DType.u64 > .bool)
    }

    @Test func `sizes are those of the names`() {
        for dtype in DType.allCases where dtype != .bool {
            let digits = dtype.name.drop { !$0.isNumber }.prefix { $0.isNumber }
            #expect(dtype.bitsPerElement == Int(digits))
        }
        #expect(DType.bool.bitsPerElement == 8)
    }

    @Test func `byte counts know packing and overflow`() {
        #expect(DType.f4.byteCount(shape: [2, 8]) == 8)
        #expect(DType.f4.byteCount(shape: [15]) == nil)
        #expect(DType.f32.byteCount(shape: []) == 4)
        #expect(DType.f32.byteCount(shape: [0, 1 << 63]) == 0)
        #expect(DType.f32.byteCount(shape: [1 << 63, 2, 0]) == nil)
        #expect(DType.u8.byteCount(shape: [1 << 61]) == nil)
    }
}
