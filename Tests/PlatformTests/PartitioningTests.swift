import Platform
import Testing

struct PartitioningTests {
    @Test func `the first number of those behind a place is found in every row`() {
        for count in 0...9 {
            for place in 0...count {
                #expect((0..<count).partitioningIndex { $0 >= place } == place)
                #expect((-4..<count).partitioningIndex { $0 >= place } == place)
            }
        }
        #expect((3..<3).partitioningIndex { _ in true } == 3)
    }

    @Test func `it looks at a few only, however many there are`() {
        var looks = 0
        let place = (0..<Int.max).partitioningIndex {
            looks += 1
            return $0 > 1 << 40
        }
        #expect(place == (1 << 40) + 1 && looks <= 63)
    }
}
