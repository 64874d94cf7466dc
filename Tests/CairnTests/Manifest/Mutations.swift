import ChunkStore
import Testing

/// Changes every byte of an encoding, each of its bits alone among others, cuts it everywhere and lengthens
/// it: each result is either refused or stands for a value that encodes to exactly these bytes.
///
/// - Parameter recode: decodes and encodes again.
func expectCanonical(
    _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation, recode: ([UInt8]) throws -> [UInt8]
) {
    var accepted = 0
    func probe(_ mutated: [UInt8], _ what: @autoclosure () -> String) {
        guard let again = try? recode(mutated) else { return }
        accepted += 1
        if again != mutated {
            Issue.record("\(what()) decodes but encodes differently", sourceLocation: sourceLocation)
        }
    }
    for index in bytes.indices {
        var mutated = bytes
        let flipped = (0..<8).map { bytes[index] ^ (1 << $0) }
        let values = Set(flipped + [0, 1, 0x2E, 0x2F, 0x7F, 0xFF, bytes[index] &+ 1, bytes[index] &- 1])
        for value in values where value != bytes[index] {
            mutated[index] = value
            probe(mutated, "byte \(index) as \(value)")
        }
        #expect(throws: (any Error).self, "cut to \(index) bytes", sourceLocation: sourceLocation) {
            try recode([UInt8](bytes[..<index]))
        }
        probe([UInt8](bytes[..<index] + bytes[(index + 1)...]), "without byte \(index)")
        probe([UInt8](bytes[..<index] + [0] + bytes[index...]), "with a zero byte before \(index)")
    }
    #expect(throws: (any Error).self, sourceLocation: sourceLocation) { try recode(bytes + [0]) }
    // Not everything may be refused, or the test would say nothing.
    #expect(accepted > 0, sourceLocation: sourceLocation)
}

/// A made-up id.
func id(_ byte: UInt8) -> ChunkID { ChunkID.of([byte]) }

func blob(_ length: UInt64, _ byte: UInt8 = 1) -> BlobRef { BlobRef(length: length, id: id(byte)) }
