import Cairn
import Platform
import Testing

struct AmountTests {
    @Test(
        "reads sizes in decimal and binary units",
        arguments: [
            ("500GB", 500_000_000_000), ("500GiB", 536_870_912_000), ("1", 1), ("0", 0), ("7B", 7),
            ("2kb", 2000),
            ("2KiB", 2048), ("3MB", 3_000_000), ("512MiB", 536_870_912), ("1TB", 1_000_000_000_000),
            ("1TiB", 1_099_511_627_776), ("1PB", 1_000_000_000_000_000),
            ("9223372036854775807", 9_223_372_036_854_775_807),
        ] as [(String, UInt64)])
    func sizes(text: String, bytes: UInt64) throws {
        #expect(try ByteSize.parse(text) == bytes)
    }

    @Test(
        "refuses other sizes",
        arguments: [
            "", "GB", "-1GB", "1.5GB", "1 GB", "1G", "1XB", "9300PB", "9223372036854775808",
            "99999999999999999999", "５GB",
        ])
    func unsoundSizes(text: String) {
        #expect(throws: CairnError.self) { try ByteSize.parse(text) }
    }

    @Test(
        "reads durations and writes them back",
        arguments: [
            ("45s", 45), ("90m", 5400), ("36h", 129_600), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0),
        ] as [(String, Int64)])
    func durations(text: String, seconds: Int64) throws {
        let nanoseconds = try DurationText.parse(text)
        #expect(nanoseconds == seconds * 1_000_000_000)
        #expect(try DurationText.parse(DurationText.text(nanoseconds)) == nanoseconds)
    }

    @Test("writes the longest unit that divides")
    func text() throws {
        for (text, expected) in [("120m", "2h"), ("14d", "2w"), ("36h", "36h"), ("61s", "61s"), ("8d", "8d")]
        {
            #expect(DurationText.text(try DurationText.parse(text)) == expected)
        }
    }

    @Test(
        "refuses other durations",
        arguments: ["", "36", "h", "-1h", "1.5h", "1 h", "1H", "1y", "300000w", "1hh"])
    func unsoundDurations(text: String) {
        #expect(throws: CairnError.self) { try DurationText.parse(text) }
    }
}
