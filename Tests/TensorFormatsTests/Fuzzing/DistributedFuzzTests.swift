import Testing

@testable import TensorFormats

/// Damaged files of distributed checkpoints and of PyTorch before 1.6: never a crash, never a read outside the file, and
/// never a bad cut.
struct DistributedFuzzTests {
    private static func originals(_ folder: String, _ filter: (String) -> Bool) throws -> [[UInt8]] {
        try Fixtures.files(in: folder).filter(filter).map { try Fixtures.bytes("\(folder)/\($0)") }.filter {
            !$0.isEmpty
        }
    }

    /// - Parameter accepts: whether a file is taken; it checks what comes out.
    private func fuzz(_ what: String, _ originals: [[UInt8]], _ accepts: ([UInt8]) -> Bool) {
        Fuzz.run(what) { random in
            var file = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { Fuzz.damage(&file, &random) }
            return accepts(file)
        }
    }

    @Test func `damaged items crash nothing and are never cut badly`() throws {
        // Without a checksum the damage gets as far as the unpickler.
        var zeros = VirtualFile.savedZeros(5)
        zeros.append(.savedZeros(2))
        let originals = try Self.originals("dcp") { $0.hasSuffix(".distcp") } + [zeros.read(0..<zeros.size)]
        fuzz("distcp", originals) { file in
            guard let map = try? TensorMap(distributed: file) else { return false }
            Fuzz.expect(map.isSound(fileSize: file.count))
            return true
        }
    }

    @Test func `damaged files from before 1.6 crash nothing and are never cut badly`() throws {
        fuzz("before 1.6", try Self.originals("pytorch") { $0.hasPrefix("before-1.6") }) { file in
            guard let map = try? TensorMap(pyTorch: file) else { return false }
            Fuzz.expect(map.isSound(fileSize: file.count))
            return true
        }
    }

    @Test func `damaged metadata crashes nothing, neither when it is read nor when it is checked`() throws {
        fuzz("metadata", try Self.originals("dcp") { $0.hasSuffix(".metadata") }) { file in
            guard let metadata = try? DCPMetadata(parsing: file) else { return false }
            for problem in metadata.problems(fileLength: { $0.hasPrefix("__0") ? 9000 : nil }) {
                Fuzz.expect(problem.message.hasSuffix("."))
            }
            return true
        }
    }

    @Test(arguments: ["dcp/torch-2.0.distcp", "pytorch/before-1.6-few.pt", "dcp/torch-2.0.metadata"])
    func `a file that ends at any byte too early is refused, but where an item ends`(_ file: String) throws {
        let bytes = try Fixtures.bytes(file)
        let ends = Set(
            try DCPMetadata(parsing: Fixtures.bytes("dcp/torch-2.0.metadata")).tensors.flatMap(\.chunks)
                .compactMap { $0.place.map { Int($0.offset) } } + [0, 431])
        for length in bytes.indices {
            let cut = Array(bytes[..<length])
            if file.hasSuffix(".metadata") {
                #expect(throws: TensorFileError.self, "\(length)") { try DCPMetadata(parsing: cut) }
            } else if file.hasSuffix(".pt") {
                #expect(throws: TensorFileError.self, "\(length)") { try TensorMap(pyTorch: cut) }
            } else if ends.contains(length) {
                #expect(try TensorMap(distributed: cut).isSound(fileSize: length))
            } else {
                let error = #expect(throws: TensorFileError.self, "\(length)") {
                    try TensorMap(distributed: cut)
                }
                #expect(error?.code == .damaged)
            }
        }
    }
}
