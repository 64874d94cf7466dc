import Testing

@testable import TensorFormats

/// Metadata of distributed checkpoints by hand, most of it wrong. What torch writes is in `DistributedTests`.
struct DCPMetadataTests {
    private func failure(_ change: (inout PythonMetadata) -> Void) -> TensorFileError? {
        var metadata = PythonMetadata()
        change(&metadata)
        do {
            _ = try DCPMetadata(parsing: metadata.pickle)
            return nil
        } catch {
            return error
        }
    }

    @Test func `what is no metadata, or contradicts itself, is refused with its name`() {
        #expect(failure { $0.addTensor("w", [4], chunks: [([0], [4])]) } == nil)
        let cases: [(String, (inout PythonMetadata) -> Void)] = [
            (
                "The shape of the tensor \"w\" is beyond 63 bits",
                { $0.addTensor("w", [1 << 61, 8], chunks: []) }
            ),
            (
                "The shape of the tensor \"w\" is beyond 63 bits",
                { $0.addTensor("w", [.max, .max], chunks: []) }
            ),
            ("The tensor \"w\" is described in an unknown way", { $0.addTensor("w", [-1], chunks: []) }),
            ("A chunk of the tensor \"w\"", { $0.addTensor("w", [4], chunks: [([0, 0], [4, 1])]) }),
            ("A chunk of the tensor \"w\"", { $0.addTensor("w", [4], chunks: [([-1], [4])]) }),
            (
                "Two things have the name \"w\"",
                {
                    $0.addTensor("w", [], chunks: [])
                    $0.addObject("w")
                }
            ),
            ("What \"w\" is, a tensor or an object", { $0.entries.append(("w", .instance("Other", []))) }),
            ("What \"w\" is, a tensor or an object", { $0.entries.append(("w", .none)) }),
            ("It places something that has no name", { $0.items.append((.none, .none)) }),
            (
                "The bytes of \"w\" are described",
                {
                    $0.addObject("w")
                    $0.place("w", nil, offset: -1)
                }
            ),
        ]
        for (start, change) in cases {
            let error = failure(change)
            #expect(error?.code == .invalidPickle && error?.message.hasPrefix(start) == true, "\(start)")
        }
        for value in [PythonValue.none, .dictionary([]), .list([.integer(1)]), .instance("Metadata", [])] {
            let error = #expect(throws: TensorFileError.self) { try DCPMetadata(parsing: value.pickle) }
            #expect(error?.code == .invalidPickle)
        }
    }

    @Test func `items belong to chunks by their offsets, else by their number`() throws {
        var metadata = PythonMetadata()
        metadata.addTensor("w", [4, 2], chunks: [([0, 0], [3, 2]), ([3, 0], [1, 2])])
        metadata.addTensor("empty", [0], chunks: [([0], [0]), ([0], [0])])
        metadata.addTensor("s", [], chunks: [([], [])])
        // A number that contradicts the offsets is a hint that is not taken.
        metadata.place("w", [3, 0], index: 0, offset: 7)
        metadata.place("w", nil, index: 0, file: "a", offset: 8)
        metadata.place("empty", [0], offset: 9)
        metadata.place("s", [], offset: 10)
        metadata.place("unknown", [0], file: "b", offset: 11)
        let read = try DCPMetadata(parsing: metadata.pickle)
        #expect(read.tensors.flatMap(\.chunks).map { $0.place?.offset } == [8, 7, 9, 9, 10])
        #expect(read.files == ["__0_0.distcp", "a"] && read.tensors[0].chunks[0].place?.file == 1)
        #expect(read.version == nil && read.checkpointID == nil && read.tensors[0].path == nil)
    }

    @Test func `a type of another library keeps its name`() throws {
        var metadata = PythonMetadata()
        metadata.addTensor("w", [2], dtype: "quint4x2", chunks: [])
        metadata.addTensor("v", [2], dtype: "bfloat16", chunks: [])
        #expect(try DCPMetadata(parsing: metadata.pickle).tensors.map(\.dtype) == ["quint4x2", "BF16"])
    }

    // MARK: Completeness

    /// Two tensors and an object in two files.
    private func checkpoint() -> PythonMetadata {
        var metadata = PythonMetadata()
        metadata.addTensor("w", [4, 2], chunks: [([0, 0], [2, 2]), ([2, 0], [2, 2])])
        metadata.addTensor("b", [3], chunks: [([0], [3])])
        metadata.addObject("lr")
        metadata.place("w", [0, 0], offset: 0, length: 500)
        metadata.place("w", [2, 0], file: "__1_0.distcp", offset: 100, length: 400)
        metadata.place("b", [0], offset: 500, length: 70)
        metadata.place("lr", nil, file: "__1_0.distcp", offset: 0, length: 100)
        return metadata
    }

    private func problems(
        _ metadata: PythonMetadata, _ lengths: [String: UInt64] = ["__0_0.distcp": 570, "__1_0.distcp": 500]
    ) throws -> [DCPMetadata.Problem] {
        try DCPMetadata(parsing: metadata.pickle).problems { lengths[$0] }
    }

    @Test func `a whole checkpoint has no problems`() throws {
        #expect(try problems(checkpoint()) == [])
        #expect(try problems(checkpoint(), ["__0_0.distcp": .max, "__1_0.distcp": 500, "other": 1]) == [])
    }

    @Test func `files that are missing or too short are named`() throws {
        #expect(
            try problems(checkpoint(), ["__0_0.distcp": 569]) == [
                DCPMetadata.Problem(
                    kind: .shortFile, name: "__0_0.distcp",
                    message: "The file \"__0_0.distcp\" has 569 bytes, but \"b\" in it ends at byte 570."),
                DCPMetadata.Problem(
                    kind: .missingFile, name: "__1_0.distcp",
                    message: "The file \"__1_0.distcp\" is missing, which has 2 items, \"w\" among them."),
            ])
        #expect(try problems(checkpoint(), [:]).count == 2)
        let read = try DCPMetadata(parsing: checkpoint().pickle)
        #expect(read.problems(maximumCount: 1) { _ in nil }.count == 1)

        var far = checkpoint()
        far.place("b", [0], offset: .max, length: .max)
        #expect(try problems(far).map(\.kind) == [.shortFile])
    }

    @Test func `parts that have no place are named`() throws {
        var metadata = checkpoint()
        metadata.items.removeSubrange(1...)
        #expect(
            try problems(metadata).map { "\($0.kind) \($0.message)" } == [
                "missingItem The metadata does not say where \"lr\" is.",
                "missingItem The metadata does not say where the chunk at [2, 0] of \"w\" is.",
                "missingItem The metadata does not say where the chunk at [0] of \"b\" is.",
            ])
    }

    @Test func `tens of thousands of chunks take seconds, and as many problems are not listed`() throws {
        var metadata = PythonMetadata()
        let count: Int64 = 10_000
        metadata.addTensor("long", [count], chunks: (0..<count).map { ([$0], [1]) })
        for index in 0..<count {
            metadata.addTensor("t\(index)", [2, 3], chunks: [([0, 0], [2, 3])])
            metadata.place("long", [index], offset: 2 * index)
            metadata.place("t\(index)", [0, 0], file: "f\(index)", offset: 2 * index)
        }
        let (bytes, clock) = (metadata.pickle, ContinuousClock())
        var read: DCPMetadata?
        let time = try clock.measure {
            read = try DCPMetadata(parsing: bytes)
            #expect(read?.problems { _ in nil }.count == 100)
            #expect(read?.problems { _ in 1 << 40 } == [])
        }
        print("metadata of \(bytes.count) bytes, 20,000 items: \(time)")
        #expect(time < .seconds(60) && read?.tensors.count == Int(count) + 1)
    }
}
