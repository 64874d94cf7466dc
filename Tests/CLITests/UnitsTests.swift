import Cairn
import Testing

@testable import CairnCLI

struct UnitsTests {
    @Test(
        arguments: [
            (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (262_144, "256.0 KiB"),
            (1_048_575, "1.0 MiB"), (402_862_899, "384.2 MiB"), (1 << 40, "1.0 TiB"),
            (UInt64.max, "16.0 EiB"),
        ] as [(UInt64, String)])
    func `Sizes have a binary unit and never five digits`(bytes: UInt64, text: String) {
        #expect(Units.size(bytes) == text)
    }

    @Test(
        arguments: [
            (0, "0 B"), (262_144, "256 KiB"), (64 << 20, "64 MiB"), (500_000_000_000, "500 GB"),
            (1 << 40, "1 TiB"),
            (1001, "1001 B"),
        ] as [(UInt64, String)])
    func `Sizes that people gave come back as they gave them`(bytes: UInt64, text: String) {
        #expect(Units.exactSize(bytes) == text)
    }

    @Test(
        arguments: [
            (-5, "now"), (0, "now"), (1, "1 s ago"), (59, "59 s ago"), (60, "1 min ago"),
            (3599, "59 min ago"),
            (3600, "1 h ago"), (3 * 3600, "3 h ago"), (47 * 3600, "47 h ago"), (48 * 3600, "2 d ago"),
            (59 * 86_400, "59 d ago"), (61 * 86_400, "2 mo ago"), (800 * 86_400, "2 y ago"),
        ] as [(Int64, String)])
    func `Ages grow with the time that passed`(seconds: Int64, text: String) {
        let now: Int64 = 1_800_000_000_000_000_000
        #expect(Units.age(of: now - seconds * 1_000_000_000, now: now) == text)
    }

    @Test func `An age does not overflow`() {
        #expect(Units.age(of: .min, now: .max) == "now")
        #expect(Units.age(of: .max, now: .min) == "now")
    }

    @Test(
        arguments: [
            (0, "0"), (1, "1"), (0.5, "0.5"), (1.83, "1.83"), (0.123456789, "0.12346"), (1024.53, "1024.5"),
            (123_456.7, "123457"), (-2.5, "-2.5"), (0.00012345678, "0.00012346"), (1e-7, "1e-07"),
            (1.5e-300, "1.5e-300"),
            (9.99999e-5, "1e-04"), (1e12, "1e+12"), (1.7976931348623157e308, "1.7977e+308"), (.nan, "nan"),
            (-.infinity, "-inf"), (-0.0, "0"),
        ] as [(Double, String)])
    func `Metrics keep the digits that matter`(value: Double, text: String) {
        #expect(Units.value(value) == text)
    }

    @Test(
        arguments: [
            (0, "0.00 s"), (0.3111, "0.31 s"), (9.996, "10.0 s"), (42, "42.0 s"), (59.96, "1 min 0 s"),
            (200, "3 min 20 s"), (7500, "2 h 5 min"), (.infinity, "?"), (.nan, "?"),
        ] as [(Double, String)])
    func `Durations`(seconds: Double, text: String) {
        #expect(Units.duration(seconds) == text)
    }

    @Test func `Counts and percentages`() {
        #expect(Units.count(1, "file") == "1 file")
        #expect(Units.count(12_345, "tensor") == "12,345 tensors")
        #expect(Units.grouped(-1_234_567) == "-1,234,567")
        #expect(Units.grouped(999) == "999")
        #expect(Units.percent(172, of: 1000) == "17.2 %")
        #expect(Units.percent(0, of: 0) == "0 %")
        #expect(Units.fixed(-0.04, 1) == "0.0")
        #expect(Units.rate(1 << 30, seconds: 0) == nil)
        #expect(Units.rate(1 << 30, seconds: 2) == "512.0 MiB/s")
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000000Z"), (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_763_694_312_123_456_789, "2025-11-21T03:05:12.123456Z"),
            (4_107_542_399_000_000_000, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000Z"),
        ] as [(Int64, String)])
    func `Moments are ISO 8601 in UTC`(nanoseconds: Int64, text: String) {
        #expect(Timestamp(nanoseconds).iso8601 == text)
    }

    @Test func `The earliest and the latest moment have a date`() {
        #expect(Timestamp(.min).text == "1677-09-21 00:12:43 UTC")
        #expect(Timestamp(.max).text == "2262-04-11 23:47:16 UTC")
    }
}
