import Testing

@testable import TensorFormats

/// Files that numpy wrote, and what numpy says is in them (tools/python/numpy_fixtures.py).
struct NumPyTests {
    static let expected = ExpectedTensors("numpy")

    private static func map(_ name: String, _ file: Fixture) throws -> TensorMap {
        try TensorMap(String(name.suffix(3)), file)
    }

    @Test(arguments: expected.accepted)
    func `the tensors are the plain arrays that numpy loads`(_ file: String) throws {
        try Self.expected.check(file) { try Self.map(file, $0) }
    }

    @Test(arguments: expected.refused)
    func `what is not certain is refused with a reason`(_ file: String) throws {
        try Self.expected.checkRefusal(file) { try Self.map(file, $0) }
    }

    @Test func `there are fixtures of every kind`() throws {
        #expect(Self.expected.accepted.count >= 18 && Self.expected.refused.count >= 12)
        let dtypes = try TensorMap("npz", Fixture("numpy/dtypes.npz")).tensors.map(\.dtype)
        let missing = Set(DType.allCases.map(\.name)).subtracting(dtypes)
        #expect(
            missing.allSatisfy {
                $0 == "BF16" || $0.hasPrefix("F4") || $0.hasPrefix("F6") || $0.hasPrefix("F8")
            })
        #expect(Set(dtypes).isSuperset(of: ["C128", "f16", "S3", "U5", "V2", "M8[ns]", "m8[25s]"]))
    }

    @Test func `numbers have their size`() throws {
        let map = try TensorMap("npz", Fixture("numpy/dtypes.npz"))
        let sizes = ["C128": 8, "f16": 1, "S3": 1, "U5": 4, "V2": 2, "V5": 1, "M8[ns]": 8, "m8[25s]": 8]
        for tensor in map.tensors {
            let expected = sizes[tensor.dtype] ?? DType(rawValue: tensor.dtype)?.bytesPerNumber
            #expect(map.extents[tensor.extent].elementSize == expected, "\(tensor.dtype)")
        }
    }

    @Test func `an array in Fortran's order is a blob without a tensor`() throws {
        let file = try Fixture("numpy/fortran.npy")
        let map = try TensorMap("npy", file)
        #expect(map.format == "npy" && map.tensors.isEmpty && map.extents.map(\.length) == [48])
        let mixed = try TensorMap("npz", Fixture("numpy/mixed.npz"))
        #expect(mixed.format == "npz" && mixed.tensors.map(\.name) == ["plain", "last"])
        #expect(mixed.extents.map(\.length) == [48, 48, 5])
    }

    @Test func `no element is read`() throws {
        let file = try Fixture("numpy/same.npz")
        var read: UInt64 = 0
        let map = try TensorMap(npz: file.size) { range in
            read += range.upperBound - range.lowerBound
            return file.read(range)
        }
        // A header, the directory and the end of the file, some of it twice.
        #expect(map.extents.map(\.length) == [6144] && read < 512)
    }

    @Test(arguments: [
        "{'a': 1}", "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ('1',)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} 1",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808, 1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "'", "'\\", "", "(1, 2)", "u", "Tru",
        String(repeating: "(", count: 5000), String(repeating: "{0:", count: 5000),
    ])
    func `a header that is none is refused`(_ header: String) throws {
        let error = #expect(throws: TensorFileError.self) { try TensorMap("npy", Self.array(header)) }
        #expect(error?.code == .damaged, "\(error?.message ?? "")")
    }

    @Test(arguments: ["", "<", "<f", "f4x", "<q4", "<f4[ns]", "<M8[ns", "<f99999999999", "|O8", "<f٤"])
    func `an unknown type is refused`(_ descr: String) throws {
        let header = "{'descr': '\(descr)', 'fortran_order': False, 'shape': (1,)}"
        let error = #expect(throws: TensorFileError.self) { try TensorMap("npy", Self.array(header)) }
        #expect(error?.code == .unsupported, "\(error?.message ?? "")")
    }

    /// A file of this header, with four bytes behind it.
    private static func array(_ header: String) -> Fixture {
        let length = UInt16(header.utf8.count)
        let start: [UInt8] = [0x93] + Array("NUMPY\u{1}\0".utf8)
        return Fixture(
            bytes: start + [UInt8(length & 0xFF), UInt8(length >> 8)] + header.utf8 + [0, 0, 0, 0])
    }
}
