import Testing

@testable import TensorFormats

/// Files that torch.save wrote, to be written again from what was saved (tools/python/writing_fixtures.py).
struct TorchFileTests {
    private static let fixtures = try! Fixtures.json("torch-save/cases.json", allowNonFinite: true)
    static let cases = fixtures["cases"]!.array!.indices

    @Test(arguments: cases)
    func `a file is the one that torch.save writes`(_ number: Int) throws {
        let example = Self.fixtures["cases"]!.array![number]
        let name = example["file"]!.stringValue!
        let contents = example["contents"]!.array!.map { bytes(hex: $0.stringValue!) }
        let tensors = try #require(example["tensors"]?.array).map { tensor in
            TorchFileWriter.Tensor(
                name: "t", dtype: DType(rawValue: tensor["dtype"]!.stringValue!)!,
                shape: tensor["shape"]!.array!.map { $0.uint64! }, content: tensor["content"]!.int!)
        }
        let root = TorchFileWriter.root(forFile: name)
        let file = try TorchFileWriter.file(of: value(example["value"]!), tensors: tensors, root: root)
        #expect(file.isSound)
        let expected = try Fixtures.bytes("torch-save/\(name)")
        #expect(
            withoutIdentity(file.bytes(of: contents), root: root) == withoutIdentity(expected, root: root),
            "\(name)")
    }

    @Test func `there are cases of every kind`() {
        #expect(Self.cases.count >= 11)
        let tensors = Self.fixtures["cases"]!.array!.flatMap { $0["tensors"]!.array! }
        let dtypes = Set(tensors.compactMap { $0["dtype"]?.stringValue })
        #expect(Set(DType.allCases.map(\.name)).subtracting(dtypes) == ["F6_E2M3", "F6_E3M2"])
    }

    private static let large: [(String, TorchValue, count: Int)] = [
        (
            "batches.pt",
            .list([
                .list((0..<999).map { .integer($0) }), .dictionary((0..<999).map { (.integer($0), .none) }),
                .dictionary((0..<1000).map { (.integer($0), .none) }), .list((0..<1001).map { .integer($0) }),
                .orderedDictionary((0..<2000).map { (.integer($0), .none) }),
                .orderedDictionary((0..<2001).map { (.text("n.\($0)"), .tuple([])) }),
                .dictionary((0..<3001).map { (.integer($0), .none) }),
            ]), 0
        ),
        (
            "many.pt",
            .orderedDictionary((0..<300).map { (.text("layers.\($0).weight"), .tensor($0)) }), 300
        ),
        ("numerous.pt", .list((0..<70_000).map { .tensor($0) }), 70_000),
    ]

    @Test(arguments: large.indices)
    func `a large file is the one that torch.save writes`(_ number: Int) throws {
        let (name, value, count) = Self.large[number]
        let expected = try #require(Self.fixtures["large"]?.array?.first { $0["file"]?.stringValue == name })
        let tensors = (0..<count).map {
            TorchFileWriter.Tensor(name: "\($0)", dtype: .u8, shape: [], content: $0)
        }
        let root = TorchFileWriter.root(forFile: name)
        let file = try TorchFileWriter.file(of: value, tensors: tensors, root: root)
        let bytes = withoutIdentity(file.bytes(of: (0..<count).map { [UInt8($0 % 251)] }), root: root)
        #expect(bytes.count == expected["size"]?.int)
        #expect(Int(CRC32(bytes).value) == expected["crc32"]?.int)
    }

    @Test func `a file beyond 4 GiB is the one that torch.save writes`() throws {
        let wide = try #require(Self.fixtures["wide"])
        let names = wide["names"]!.array!.map { $0.stringValue! }
        let sizes = wide["sizes"]!.array!.map { $0.uint64! }
        let tensors = zip(names, sizes).enumerated().map { number, tensor in
            TorchFileWriter.Tensor(name: tensor.0, dtype: .u8, shape: [tensor.1], content: number)
        }
        let value = TorchValue.orderedDictionary(
            names.enumerated().map { (key: .text($1), value: .tensor($0)) })
        let file = try TorchFileWriter.file(of: value, tensors: tensors, root: "wide")
        #expect(file.isSound && file.length > 3 << 32)

        // What is between the tensors, with no checksums, as torch leaves them where it has no data.
        var literals: [(start: UInt64, bytes: [UInt8])] = []
        var (position, open): (UInt64, Bool) = (0, false)
        for part in file.parts {
            if case .content = part {
                open = false
            } else {
                let bytes: [UInt8] = if case .literal(let bytes) = part { bytes } else { [0, 0, 0, 0] }
                if open {
                    literals[literals.count - 1].bytes += bytes
                } else {
                    literals.append((position, bytes))
                }
                open = true
            }
            position += part.length
        }
        let expected = wide["literals"]!.array!.map { $0.array! }
        #expect(literals.map(\.start) == expected.map { $0[0].uint64! })
        for (literal, expected) in zip(literals, expected) {
            let expected = bytes(hex: expected[1].stringValue!)
            #expect(
                withoutIdentity(literal.bytes, root: "wide") == withoutIdentity(expected, root: "wide"),
                "at \(literal.start)")
        }
    }

    @Test func `what is written is read back, with checksums and without`() throws {
        var random = SeededGenerator(seed: 21)
        for _ in 0..<100 {
            let tensors = (0..<Int.random(in: 0...9, using: &random)).map { number in
                let dtype = DType.allCases.filter { $0.torchName != nil }.randomElement(using: &random)!
                let shape = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                    UInt64.random(in: 0...3, using: &random) * 2
                }
                return TorchFileWriter.Tensor(name: "n\(number)", dtype: dtype, shape: shape, content: number)
            }
            let contents = tensors.map { tensor in
                (0..<Int(tensor.dtype.byteCount(shape: tensor.shape)!)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
            }
            let value = TorchValue.orderedDictionary(
                tensors.enumerated().map { (.text($1.name), .tensor($0)) })
            let file = try TorchFileWriter.file(of: value, tensors: tensors)
            for withChecksums in [true, false] {
                let bytes = file.bytes(of: contents, withChecksums: withChecksums)
                #expect(UInt64(bytes.count) == file.length)
                let map = try TensorMap(pyTorch: UInt64(bytes.count)) {
                    Array(bytes[Int($0.lowerBound)..<Int($0.upperBound)])
                }
                #expect(map.tensors.map(\.name) == tensors.map(\.name))
                for (found, tensor) in zip(map.tensors, tensors) {
                    #expect(found.dtype == tensor.dtype.name && found.shape == tensor.shape)
                    #expect(Array(map.bytes(of: found, in: bytes)) == contents[tensor.content])
                    #expect(map.extents[found.extent].offset % 64 == 0 || found.length == 0)
                }
            }
        }
    }

    @Test func `the golden file without checksums is written`() throws {
        let dtypes = DType.allCases.filter { $0.torchName != nil && $0 != .bool }
        let tensors = dtypes.enumerated().map { number, dtype in
            TorchFileWriter.Tensor(name: dtype.name, dtype: dtype, shape: [3, 4], content: number)
        }
        let value = TorchValue.dictionary([
            (
                .text("model"),
                .orderedDictionary(tensors.enumerated().map { (.text($1.name), .tensor($0)) })
            ),
            (.text("step"), .integer(3)), (.text("random"), .bytes([0, 255, 7])), (.text("none"), .bytes([])),
        ])
        let contents = tensors.map {
            GoldenFiles.content($0.content, count: Int($0.dtype.byteCount(shape: $0.shape)!))
        }
        let file = try TorchFileWriter.file(of: value, tensors: tensors, root: "no-checksums")
        try GoldenFiles.check("no-checksums.pt", file.bytes(of: contents, withChecksums: false))
    }

    @Test(
        arguments: [
            (.tensor(0), [.init(name: "x", dtype: .f6E2M3, shape: [4], content: 0)], "unsupported-dtype"),
            (.tensor(0), [.init(name: "x", dtype: .f4, shape: [3, 3], content: 0)], "invalid-shape"),
            (.tensor(0), [.init(name: "x", dtype: .f4, shape: [2, 3], content: 0)], "invalid-shape"),
            (
                .tensor(0), [.init(name: "x", dtype: .f32, shape: [1 << 32, 1 << 32], content: 0)],
                "invalid-shape"
            ),
            (
                .tensor(0), [.init(name: "x", dtype: .u8, shape: [0, 1 << 62, 1 << 62], content: 0)],
                "invalid-shape"
            ),
            (
                .tensor(0), [.init(name: "x", dtype: .u8, shape: .init(repeating: 1, count: 65), content: 0)],
                "invalid-shape"
            ),
            (
                .tensor(0),
                (0..<4).map { .init(name: "x", dtype: .u8, shape: [1 << 60], content: $0) }, "too-large"
            ),
            (
                .tensor(0),
                [
                    .init(name: "x", dtype: .u8, shape: [8], content: 0),
                    .init(name: "y", dtype: .u8, shape: [9], content: 0),
                ], "invalid-shape"
            ),
            (
                .list([.tuple([.tensor(1)])]), [.init(name: "x", dtype: .u8, shape: [8], content: 0)],
                "invalid-value"
            ),
            (.dictionary([(.tensor(-1), .none)]), [], "invalid-value"),
            ((0..<501).reduce(.none) { value, _ in .list([value]) }, [], "invalid-value"),
        ] as [(TorchValue, [TorchFileWriter.Tensor], String)])
    func `what torch can't have is refused with a sentence`(
        _ value: TorchValue, _ tensors: [TorchFileWriter.Tensor], _ code: String
    ) {
        let error = #expect(throws: TensorFileError.self) {
            try TorchFileWriter.file(of: value, tensors: tensors)
        }
        #expect(error?.code.rawValue == code)
        #expect(error?.message.hasSuffix(".") == true)
    }

    @Test(arguments: ["", "a/b", String(repeating: "x", count: 2000)])
    func `a root that no archive can have is refused`(_ root: String) {
        let error = #expect(throws: TensorFileError.self) {
            try TorchFileWriter.file(of: .none, tensors: [], root: root)
        }
        #expect(error?.code == .invalidName)
    }

    @Test(
        arguments: [
            ("model.pt", "model"), ("a.b.pt", "a.b"), ("model", "model"), (".pt", "archive"), ("", "archive"),
            ("é.pt", "archive"), ("pytorch_model-00001-of-00002.bin", "pytorch_model-00001-of-00002"),
        ])
    func `the root is the file's name without its ending`(_ name: String, _ root: String) {
        #expect(TorchFileWriter.root(forFile: name) == root)
    }

    /// A value as tools/python/writing_fixtures.py describes it.
    private func value(_ json: JSON) -> TorchValue {
        switch json {
        case .null: .none
        case .bool(let value): .bool(value)
        case .integer(let value): .integer(value)
        case .number(let value): .float(value)
        case .string(let value): .text(value)
        case .array(let items): .list(items.map(value))
        case .object(let members):
            switch members[0].key {
            case "ordered": .orderedDictionary(items(members[0].value))
            case "dictionary": .dictionary(items(members[0].value))
            case "tuple": .tuple(members[0].value.array!.map(value))
            case "bytes": .bytes(bytes(hex: members[0].value.stringValue!))
            default: .tensor(members[0].value.int!)
            }
        case .unsigned: .none
        }
    }

    private func items(_ json: JSON) -> [(key: TorchValue, value: TorchValue)] {
        json.array!.map { (value($0.array![0]), value($0.array![1])) }
    }

    /// The file with zeros in the record that PyTorch makes of its C++ library's hashes, and for its checksum.
    private func withoutIdentity(_ file: [UInt8], root: String) -> [UInt8] {
        var file = file
        let name = Array("\(root)/.data/serialization_id".utf8)
        guard let found = file.lastRange(of: name) else { return file }
        let entry = found.lowerBound - 46
        let descriptor = file[..<entry].lastRange(of: [0x50, 0x4B, 0x07, 0x08])!.lowerBound
        for range in [descriptor - 40..<descriptor, descriptor + 4..<descriptor + 8, entry + 16..<entry + 20]
        {
            for place in range { file[place] = 0 }
        }
        return file
    }
}

extension Collection<UInt8> where Self: BidirectionalCollection, Index == Int {
    /// Where these bytes stand last.
    fileprivate func lastRange(of bytes: [UInt8]) -> Range<Int>? {
        var start = endIndex - bytes.count
        while start >= startIndex {
            if self[start..<start + bytes.count].elementsEqual(bytes) { return start..<start + bytes.count }
            start -= 1
        }
        return nil
    }
}
