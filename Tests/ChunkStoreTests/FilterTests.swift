import Testing

@testable import ChunkStore

@Suite struct FilterTests {
    private func ids(_ range: Range<Int>) -> [ChunkID] { range.map { .of([UInt8]("\($0)".utf8)) } }

    @Test(arguments: [0, 1, 100, 20_000])
    func whatIsThereIsAlwaysFoundAndWhatIsNotSeldom(count: Int) throws {
        var filter = try #require(ChunkFilter(capacity: count))
        for id in ids(0..<count) { filter.insert(id) }
        #expect(ids(0..<count).allSatisfy { filter.mayContain($0) })
        let wrong = ids(count..<count + 20_000).filter { filter.mayContain($0) }.count
        #expect(wrong < 20_000 / 50, "\(wrong) of 20,000")
    }

    @Test func aFilterIsNeverLargerThan32MiB() {
        #expect(ChunkFilter(capacity: 16 << 20) != nil)
        #expect(ChunkFilter(capacity: (16 << 20) + 1) == nil)
    }
}
